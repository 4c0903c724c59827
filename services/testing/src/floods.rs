//! Floods a port with frames that a connection may send and no client would, and holds it to how it ends each, and to serving
//! everybody else meanwhile in bounded memory.

use std::{fs, net::SocketAddr};

use crate::{
    frames::{
        CONTINUATION, DATA, END_HEADERS, End, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
        field, field_of_bytes, flood, frame, head_of_call, settings,
    },
    http,
};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const FRAMES: u32 = 20_000;
const FLOW_CONTROL_ERROR: End = End::GoAway(3);
const FRAME_SIZE_ERROR: End = End::GoAway(6);
const ENHANCE_YOUR_CALM: End = End::GoAway(11);
/// What a process may hold more after the floods than before: the allocator keeps some of what it gave.
const GROWTH_MAX_KIB: u64 = 64 * 1024;

const SETTINGS_STREAMS_MAX: u16 = 3;
const SETTINGS_HEADER_LIST_BYTES_MAX: u16 = 6;
const SETTINGS_CONNECT: u16 = 8;

/// One kind of flood: the frames that go before, and what is sent again and again.
struct Flood {
    what: &'static str,
    before: Vec<u8>,
    again: Box<dyn Fn(u32) -> Vec<u8> + Send>,
    expected: End,
}

fn of(what: &'static str, expected: End, again: impl Fn(u32) -> Vec<u8> + Send + 'static) -> Flood {
    Flood { what, before: Vec::new(), again: Box::new(again), expected }
}

impl Flood {
    fn after(self, before: Vec<u8>) -> Self {
        Self { before, ..self }
    }
}

/// The stream of the caller with this number.
fn stream(number: u32) -> u32 {
    2 * number + 1
}

/// The begin of a call, which stays open.
fn opened(path: &str, number: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream(number), &head_of_call(path))
}

fn floods() -> Vec<Flood> {
    let call = |path, flags| frame(HEADERS, flags, 1, &head_of_call(path));
    let reset =
        |number| [opened(CHECK, number), frame(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes())].concat();
    let many_fields: Vec<u8> =
        (0..300).flat_map(|number| field(&format!("x-{number}"), &"v".repeat(32))).collect();
    let window = |increment: u32| move |_: u32| frame(WINDOW_UPDATE, 0, 0, &increment.to_be_bytes());
    vec![
        of("calls taken back at once", ENHANCE_YOUR_CALM, reset),
        of("headers without end", ENHANCE_YOUR_CALM, move |_| {
            frame(CONTINUATION, 0, 1, &field("x-more", "and more"))
        })
        .after(call(CHECK, 0)),
        of("headers without end and without content", ENHANCE_YOUR_CALM, |_| frame(CONTINUATION, 0, 1, &[]))
            .after(call(CHECK, 0)),
        of("thousands of header fields", ENHANCE_YOUR_CALM, move |_| frame(CONTINUATION, 0, 1, &many_fields))
            .after(call(CHECK, 0)),
        of("one header field without end", ENHANCE_YOUR_CALM, |_| frame(CONTINUATION, 0, 1, &[b'v'; 16_000]))
            .after(frame(
                HEADERS,
                0,
                1,
                &[&head_of_call(CHECK)[..], &field_of_bytes("x-long", 1 << 20)].concat(),
            )),
        of("empty pieces of a message", ENHANCE_YOUR_CALM, |_| frame(DATA, 0, 1, &[]))
            .after(call(CHECK, END_HEADERS)),
        of("a window that overflows", FLOW_CONTROL_ERROR, window(0x7fff_ffff)),
        of("a frame larger than agreed on", FRAME_SIZE_ERROR, |_| frame(DATA, 0, 1, &[0; 20_000]))
            .after(call(CHECK, END_HEADERS)),
        of("windows opened bit by bit", End::Served, window(1)),
        of("settings", End::Served, |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])),
        of("pings", End::Served, |number| frame(PING, 0, 0, &u64::from(number).to_be_bytes())),
        of("priorities", End::Served, |number| frame(PRIORITY, 0, stream(number), &[0, 0, 0, 0, 1])),
        of("frames of an unknown kind", End::Served, |_| frame(0xbe, 0, 0, b"what is this?")),
    ]
}

/// Floods the port of process `pid`. Gives how many frames were let fly.
pub async fn assert_floods(address: SocketAddr, pid: u32) -> u32 {
    assert_well(address, "before").await;
    let before_kib = resident_kib(pid);
    let (mut frames, mut wrong) = (0, Vec::new());
    for Flood { what, before, again, expected } in floods() {
        let pieces = std::iter::once(before).chain((0..FRAMES).map(again));
        let (end, _) = flood(address, pieces).await;
        // What was under way when a connection was closed may have taken its last word with it.
        let is_cut = end == End::Closed && expected != End::Served;
        if end != expected && !is_cut {
            wrong.push(format!("{what}: {end:?} instead of {expected:?}"));
        }
        assert_well(address, what).await;
        frames += FRAMES;
    }
    assert_eq!(wrong, [] as [String; 0]);
    let after_kib = resident_kib(pid);
    assert!(after_kib < before_kib + GROWTH_MAX_KIB, "{before_kib} KiB, and then {after_kib}");
    eprintln!("{frames} frames in {} floods; memory {before_kib} KiB, then {after_kib}", floods().len());
    frames
}

/// Holds a port to what it says it takes of one connection: so many calls at a time, others are refused, and who goes on is cut off.
pub async fn assert_limits_are_told(address: SocketAddr, streams_max: u32, header_bytes_max: u32) {
    let told = settings(address).await;
    let value = |identifier| told.iter().find(|setting| setting.0 == identifier).map(|setting| setting.1);
    assert_eq!(value(SETTINGS_STREAMS_MAX), Some(streams_max), "{told:?}");
    assert_eq!(value(SETTINGS_HEADER_LIST_BYTES_MAX), Some(header_bytes_max), "{told:?}");
    // What is upgraded would pass the flow control by.
    assert!(matches!(value(SETTINGS_CONNECT), None | Some(0)), "{told:?}");
    let calls = (0..FRAMES).map(|number| opened(WATCH, number));
    let (end, refused) = flood(address, calls).await;
    let is_ended = matches!(end, ENHANCE_YOUR_CALM | End::Closed);
    assert!(is_ended && refused > 0, "calls that stay open: {end:?} after {refused} were refused");
    assert_well(address, "calls that stay open").await;
}

/// Another connection is served.
async fn assert_well(address: SocketAddr, what: &str) {
    let head = format!("POST {CHECK} HTTP/1.1\r\ncontent-type: application/grpc-web+proto");
    let answer = http(address, &head, &[0; 5]).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("grpc-status:0"), "{what}: {answer}");
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}
