//! From a fresh socket to a session that takes commands: parameters, authentication, first words of the server.
//!
//! ```text
//!  relay                                   server
//!    │ start-up: user, database, replication … │
//!    ├────────────────────────────────────────►│
//!    │ 'R' SASL: SCRAM-SHA-256[-PLUS]          │
//!    │◄────────────────────────────────────────┤
//!    │ first message ─ challenge ─ proof       │
//!    │ 'R' SASLFinal: the server's proof       │  a server that does not know the password stops us here
//!    │ 'R' Ok, 'S'…, 'K' process id, 'Z'       │
//!    │◄────────────────────────────────────────┤
//! ```

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;
use replication_protocol::frame::Frame;

use super::backend::{self, Authentication};
use super::error::{Attempt, SourceError, SourceErrorKind};
use super::options::{ReplicationOptions, Secret, TlsMode};
use super::socket::{Encryption, Socket};
use super::wire::Wire;

/// A session that takes commands.
pub(super) struct Session {
    pub(super) wire: Wire,
    pub(super) backend_pid: i32,
    pub(super) server_version: String,
}

/// Opens a session in replication mode.
pub(super) async fn open(options: &ReplicationOptions) -> Result<Session, SourceError> {
    let Socket { stream, encryption } = Socket::open(options).await?;
    let mut wire = Wire {
        stream,
        received: BytesMut::new(),
        frame_bytes_max: options.frame_bytes_max,
        attempt: Attempt::Connect,
    };
    wire.send(&startup_message(options)?).await?;
    authenticate(&mut wire, options, &encryption).await?;
    greetings(wire).await
}

/// The server is told our deadline here, because its own may be none at all, and then a slot stays busy for many
/// minutes after a relay's host died.
fn startup_message(options: &ReplicationOptions) -> Result<BytesMut, SourceError> {
    let wal_sender_timeout_ms = options.wal_sender_timeout.as_millis().to_string();
    let parameters = [
        ("user", options.user.as_str()),
        ("database", &options.database),
        ("replication", "database"),
        ("application_name", &options.application_name),
        ("client_encoding", "UTF8"),
        ("wal_sender_timeout", &wal_sender_timeout_ms),
    ];
    let mut message = BytesMut::new();
    frontend::startup_message(parameters, &mut message).map_err(|_| {
        denied("a name in the settings holds a zero byte", "correct the user, database or application name")
    })?;
    Ok(message)
}

async fn authenticate(
    wire: &mut Wire,
    options: &ReplicationOptions,
    encryption: &Encryption,
) -> Result<(), SourceError> {
    let request = authentication_request(wire).await?;
    if options.channel_binding_required && !matches!(request, Authentication::Sasl { .. }) {
        return Err(SourceError::unbound());
    }
    match request {
        Authentication::Sasl { mechanisms } => scram(wire, options, encryption, &mechanisms).await?,
        Authentication::Ok => return Ok(()),
        Authentication::Md5Password { salt } => {
            let hash = md5_hash(options.user.as_bytes(), password(options)?.as_bytes(), salt);
            send_password(wire, &hash).await?;
        }
        Authentication::CleartextPassword if matches!(options.tls, TlsMode::VerifyFull(_)) => {
            send_password(wire, password(options)?).await?;
        }
        Authentication::CleartextPassword => {
            let what =
                "the server asks for the password in clear text, and it is not verified who the server is";
            return Err(denied(
                what,
                "set password_encryption = scram-sha-256 on the server, or verify its certificate",
            ));
        }
        Authentication::Unsupported(_) | Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => {
            let what = "the server asks for a way to authenticate that the relay does not have";
            return Err(denied(what, "let pg_hba.conf use scram-sha-256 for this role"));
        }
    }
    if authentication_request(wire).await? == Authentication::Ok { Ok(()) } else { Err(out_of_step()) }
}

/// SCRAM, bound to the TLS connection wherever both sides can. The server's proof is checked too.
async fn scram(
    wire: &mut Wire,
    options: &ReplicationOptions,
    encryption: &Encryption,
    mechanisms: &[String],
) -> Result<(), SourceError> {
    let (mechanism, binding) = choose_mechanism(encryption, mechanisms)?;
    if options.channel_binding_required && mechanism != SCRAM_SHA_256_PLUS {
        return Err(SourceError::unbound());
    }
    let mut scram = ScramSha256::new(password(options)?.as_bytes(), binding);
    let mut message = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut message).map_err(|_| out_of_step())?;
    wire.send(&message).await?;

    let Authentication::SaslContinue(challenge) = authentication_request(wire).await? else {
        return Err(out_of_step());
    };
    scram.update(&challenge).map_err(|_| out_of_step())?;
    message.clear();
    frontend::sasl_response(scram.message(), &mut message).map_err(|_| out_of_step())?;
    wire.send(&message).await?;

    let Authentication::SaslFinal(proof) = authentication_request(wire).await? else {
        return Err(out_of_step());
    };
    scram.finish(&proof).map_err(|_| {
        denied(
            "the server could not prove that it knows the password",
            "make sure that this is the right server",
        )
    })
}

/// The strongest the two sides share. A client that could bind but is not offered it says so in the proof, which
/// uncovers someone in the middle who took the offer away.
fn choose_mechanism(
    encryption: &Encryption,
    offered: &[String],
) -> Result<(&'static str, ChannelBinding), SourceError> {
    let has = |name: &str| offered.iter().any(|mechanism| mechanism == name);
    let hash = match encryption {
        Encryption::Tls(hash) => hash.clone(),
        Encryption::None => None,
    };
    match hash {
        Some(hash) if has(SCRAM_SHA_256_PLUS) => {
            Ok((SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash)))
        }
        Some(_) if has(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
        None if has(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, ChannelBinding::unsupported())),
        _ => Err(denied(
            "the server offers no SCRAM mechanism that the relay has",
            "let pg_hba.conf use scram-sha-256",
        )),
    }
}

/// What the server wants next. An error here is its refusal.
async fn authentication_request(wire: &mut Wire) -> Result<Authentication, SourceError> {
    loop {
        let Frame { tag, body } = wire.frame().await?;
        match tag {
            b'R' => return backend::authentication(body).map_err(|error| wire.malformed(error)),
            b'E' => return Err(wire.server_error(body)),
            // NegotiateProtocolVersion: the server knows an older minor version, which is the one we asked for.
            b'v' => {}
            _ => return Err(out_of_step()),
        }
    }
}

/// What the server says between letting us in and waiting for a command.
async fn greetings(mut wire: Wire) -> Result<Session, SourceError> {
    let mut backend_pid = 0;
    let mut server_version = String::new();
    loop {
        let Frame { tag, body } = wire.frame().await?;
        match tag {
            b'K' => backend_pid = backend::backend_pid(body).map_err(|error| wire.malformed(error))?,
            b'S' => {
                let (name, value) = backend::parameter(body).map_err(|error| wire.malformed(error))?;
                if name == "server_version" {
                    server_version = value;
                }
            }
            b'E' => return Err(wire.server_error(body)),
            b'Z' => return Ok(Session { wire, backend_pid, server_version }),
            _ => {}
        }
    }
}

async fn send_password(wire: &mut Wire, password: &str) -> Result<(), SourceError> {
    let mut message = BytesMut::new();
    frontend::password_message(password.as_bytes(), &mut message)
        .map_err(|_| denied("the password holds a zero byte", "correct the password in the settings"))?;
    wire.send(&message).await
}

fn password(options: &ReplicationOptions) -> Result<&str, SourceError> {
    options.password.as_ref().map(Secret::expose).ok_or_else(|| {
        denied(
            "the server asks for a password and none is set",
            "set the password of this role in the settings",
        )
    })
}

fn denied(what: &str, mend: &'static str) -> SourceError {
    SourceError::refused(SourceErrorKind::Denied, Attempt::Connect, what, mend, None)
}

fn out_of_step() -> SourceError {
    SourceError::protocol(Attempt::Connect, "the server did not follow the protocol of authentication")
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS};

    use super::{Encryption, choose_mechanism};

    #[test]
    fn the_strongest_shared_mechanism_is_chosen() {
        let bound = Encryption::Tls(Some(vec![1]));
        for (encryption, offered, chosen) in [
            (&bound, &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256][..], Some(SCRAM_SHA_256_PLUS)),
            (&bound, &[SCRAM_SHA_256], Some(SCRAM_SHA_256)),
            (&Encryption::Tls(None), &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256], Some(SCRAM_SHA_256)),
            (&Encryption::None, &[SCRAM_SHA_256], Some(SCRAM_SHA_256)),
            (&Encryption::None, &[SCRAM_SHA_256_PLUS], None),
            (&bound, &["OAUTHBEARER"], None),
        ] {
            let offered: Vec<String> = offered.iter().map(|name| (*name).to_owned()).collect();
            let mechanism = choose_mechanism(encryption, &offered).ok().map(|(mechanism, _)| mechanism);
            assert_eq!(mechanism, chosen, "{encryption:?} {offered:?}");
        }
    }
}
