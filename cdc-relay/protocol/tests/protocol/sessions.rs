//! The recorded sessions.

use bytes::Bytes;
use replication_protocol::CopyData;
use replication_protocol::pgoutput::Message;

/// The same as [`BINARY`], of Postgres 14.
pub(crate) const BINARY_14: &str = include_str!("../golden/postgres-14-binary.hex");
/// The same, of Postgres 18.
pub(crate) const BINARY_18: &str = include_str!("../golden/postgres-18-binary.hex");
/// A session with `binary 'true'`, of Postgres 15.
pub(crate) const BINARY: &str = include_str!("../golden/postgres-15-binary.hex");
/// The same statements with `binary 'false'`.
pub(crate) const TEXT: &str = include_str!("../golden/postgres-15-text.hex");

/// The bodies of the recorded `CopyData` frames.
pub(crate) fn bodies(session: &str) -> Vec<Bytes> {
    session.lines().filter(|line| !line.starts_with('#')).map(hex).collect()
}

/// The messages of the plugin in a session.
pub(crate) fn messages(session: &str) -> Vec<Message> {
    plugin_data(session).into_iter().map(|data| Message::parse(data).unwrap()).collect()
}

/// The same, not yet parsed.
pub(crate) fn plugin_data(session: &str) -> Vec<Bytes> {
    bodies(session)
        .into_iter()
        .filter_map(|body| match CopyData::parse(body).unwrap() {
            CopyData::XLogData(piece) => Some(piece.data),
            CopyData::PrimaryKeepalive(_) => None,
            CopyData::Unknown(kind) => panic!("the server sent a frame of kind {kind}"),
        })
        .collect()
}

fn hex(line: &str) -> Bytes {
    line.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
