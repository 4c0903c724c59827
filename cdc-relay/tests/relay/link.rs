//! A link to a server, with traps: the connection on which a certain request passes is held there, before the request
//! reaches the server or before the answer comes back, until the test decides what becomes of it.
//!
//! ```text
//!   relay ──request──▶ ┊trap: Request┊ ──▶ server
//!         ◀──────────── ┊trap: Answer┊ ◀── answer
//! ```
//!
//! It runs on threads, because it serves tests that each have a runtime of their own.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use crate::support::DEADLINE;

/// Keys of Kafka's requests.
pub(crate) mod api {
    pub(crate) const PRODUCE: i16 = 0;
    pub(crate) const LIST_OFFSETS: i16 = 2;
    pub(crate) const CREATE_TOPICS: i16 = 19;
    pub(crate) const INIT_PRODUCER_ID: i16 = 22;
    pub(crate) const END_TXN: i16 = 26;
}

/// How the bytes of a protocol are cut into pieces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Requests and answers, each behind its length.
    Kafka,
    /// As they are read: a command of Postgres' simple protocol comes in one piece, and into TLS nobody looks.
    Opaque,
}

/// Where a connection is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Before the server has the request.
    Request,
    /// After the server has answered it, before the client hears of it.
    Answer,
}

/// A link from a port of loopback to a server.
pub(crate) struct Link {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    protocol: Protocol,
    traps: Mutex<Vec<Armed>>,
    /// The beginnings of the requests that passed.
    heard: Mutex<Vec<Vec<u8>>>,
}

/// What a request must be to be held.
#[derive(Clone)]
pub(crate) struct Pattern {
    /// Kafka's key of the request.
    pub(crate) api_key: Option<i16>,
    /// What the request must contain.
    pub(crate) text: String,
    /// How many such requests pass before one is held.
    pub(crate) skip: usize,
}

struct Armed {
    pattern: Pattern,
    at: At,
    held: mpsc::Sender<Held>,
}

/// A trap that may have caught a connection.
pub(crate) struct Trap(mpsc::Receiver<Held>);

/// A connection that is held.
pub(crate) struct Held {
    request: Vec<u8>,
    client: TcpStream,
    server: TcpStream,
    /// The answer, if the request is let through after all.
    answer: mpsc::Receiver<Vec<u8>>,
}

impl Pattern {
    /// A request of Kafka that names something.
    pub(crate) fn kafka(api_key: i16, text: impl Into<String>) -> Self {
        Self { api_key: Some(api_key), text: text.into(), skip: 0 }
    }

    /// A command of Postgres.
    pub(crate) fn postgres(text: &str) -> Self {
        Self { api_key: None, text: text.to_owned(), skip: 0 }
    }

    /// The request after so many others like it.
    pub(crate) fn after(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    fn is(&self, request: &[u8]) -> bool {
        let text = self.text.as_bytes();
        self.api_key.is_none_or(|api_key| request.get(4..6) == Some(&api_key.to_be_bytes()[..]))
            && request.windows(text.len()).any(|window| window == text)
    }
}

impl Trap {
    /// Waits until it has caught a connection.
    pub(crate) fn caught(&self) -> Held {
        tokio::task::block_in_place(|| self.0.recv_timeout(DEADLINE)).expect("such a request comes")
    }
}

impl Held {
    /// Cuts the connection: what is held gets nowhere.
    pub(crate) fn cut(self) {
        for stream in [&self.client, &self.server] {
            // The other side may have ended it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Cuts the client off and keeps the request on its way to the server.
    pub(crate) fn delay(self) -> Self {
        let _ = self.client.shutdown(Shutdown::Both);
        self
    }

    /// Lets the delayed request reach the server, and gives its answer.
    pub(crate) fn arrive(mut self) -> Vec<u8> {
        self.server.write_all(&self.request).expect("the connection to the server was kept");
        tokio::task::block_in_place(|| self.answer.recv_timeout(DEADLINE)).expect("an answer")
    }
}

impl Link {
    /// Opens a port that leads to the server.
    pub(crate) fn to(server: SocketAddr, protocol: Protocol) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State { protocol, traps: Mutex::default(), heard: Mutex::default() });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that does not listen is told by the end of the connection.
                if let Ok(server) = TcpStream::connect(server) {
                    connect(&client, &server, &shared);
                }
            }
        });
        Self { address, state }
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds the connection of the next request like this.
    pub(crate) fn trap(&self, pattern: Pattern, at: At) -> Trap {
        let (held, trap) = mpsc::channel();
        self.state.traps.lock().expect("no panic").push(Armed { pattern, at, held });
        Trap(trap)
    }

    /// How many requests have passed so far.
    pub(crate) fn count(&self) -> usize {
        self.state.heard.lock().expect("no panic").len()
    }

    /// Where, among the requests after the first `from`, the ones like this are.
    pub(crate) fn places(&self, from: usize, pattern: &Pattern) -> Vec<usize> {
        let heard = self.state.heard.lock().expect("no panic");
        (from..heard.len()).filter(|place| pattern.is(&heard[*place])).collect()
    }
}

fn connect(client: &TcpStream, server: &TcpStream, state: &Arc<State>) {
    let both = || (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
    for stream in [client, server] {
        stream.set_nodelay(true).expect("a socket");
    }
    let (expected, answers) = mpsc::channel();
    let (there, back) = (both(), both());
    let shared = Arc::clone(state);
    thread::spawn(move || pass_requests(there.0, there.1, &shared, &expected));
    let protocol = state.protocol;
    thread::spawn(move || pass_answers(back.0, back.1, protocol, &answers));
}

/// A request, and what becomes of its answer.
type Expected = (Vec<u8>, Answer);

enum Answer {
    Hold(mpsc::Sender<Held>),
    Tell(mpsc::Sender<Vec<u8>>),
}

fn pass_requests(
    mut client: TcpStream,
    mut server: TcpStream,
    state: &State,
    expected: &mpsc::Sender<Expected>,
) {
    while let Ok(request) = read_piece(state.protocol, &mut client) {
        match state.hear(&request) {
            Some((At::Request, held)) => {
                let (tell, answer) = mpsc::channel();
                let _ = expected.send((request.clone(), Answer::Tell(tell)));
                // A test that no longer waits lets it go.
                let _ = held.send(Held { request, client, server, answer });
                return;
            }
            Some((At::Answer, held)) => drop(expected.send((request.clone(), Answer::Hold(held)))),
            None => {}
        }
        if server.write_all(&request).is_err() {
            break;
        }
    }
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
}

fn pass_answers(
    mut client: TcpStream,
    mut server: TcpStream,
    protocol: Protocol,
    expected: &mpsc::Receiver<Expected>,
) {
    let mut next: Option<Expected> = None;
    while let Ok(answer) = read_piece(protocol, &mut server) {
        next = next.or_else(|| expected.try_recv().ok());
        match next.take_if(|(request, _)| answers(protocol, request, &answer)) {
            Some((request, Answer::Hold(held))) => {
                let (_, never) = mpsc::channel();
                let _ = held.send(Held { request, client, server, answer: never });
                return;
            }
            Some((_, Answer::Tell(tell))) => drop(tell.send(answer.clone())),
            None => {}
        }
        if client.write_all(&answer).is_err() {
            break;
        }
    }
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
}

/// Kafka's answers carry the number of their request; of Postgres the next piece is meant.
fn answers(protocol: Protocol, request: &[u8], answer: &[u8]) -> bool {
    protocol == Protocol::Opaque || answer.get(4..8) == request.get(8..12)
}

impl State {
    /// Writes down a request, and says whether it is to be held.
    fn hear(&self, request: &[u8]) -> Option<(At, mpsc::Sender<Held>)> {
        const BEGINNING_BYTES: usize = 512;
        let beginning = request.get(..BEGINNING_BYTES).unwrap_or(request).to_vec();
        self.heard.lock().expect("no panic").push(beginning);
        let mut traps = self.traps.lock().expect("no panic");
        let mut found = None;
        for (place, trap) in traps.iter_mut().enumerate().filter(|(_, trap)| trap.pattern.is(request)) {
            if trap.pattern.skip == 0 {
                found = Some(place);
                break;
            }
            trap.pattern.skip -= 1;
        }
        let Armed { at, held, .. } = traps.remove(found?);
        Some((at, held))
    }
}

fn read_piece(protocol: Protocol, from: &mut TcpStream) -> io::Result<Vec<u8>> {
    const CHUNK_BYTES: usize = 64 * 1024;
    let mut piece = vec![0; if protocol == Protocol::Kafka { 4 } else { CHUNK_BYTES }];
    if protocol == Protocol::Opaque {
        let read = from.read(&mut piece)?;
        piece.truncate(read);
        return if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(piece) };
    }
    from.read_exact(&mut piece)?;
    let length = u32::from_be_bytes([piece[0], piece[1], piece[2], piece[3]]);
    piece.resize(4 + usize::try_from(length).expect("a length"), 0);
    from.read_exact(&mut piece[4..])?;
    Ok(piece)
}
