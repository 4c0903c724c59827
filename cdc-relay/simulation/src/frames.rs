//! Frames as Postgres sends them: bodies of `CopyData`.

use bytes::Bytes;

pub(crate) const OUTBOX_OID: u32 = 77;
pub(crate) const FOREIGN_OID: u32 = 88;

/// A message of the output plugin inside XLogData; `lsn` is where the server read it.
pub(crate) fn x_log_data(lsn: u64, message: &[u8]) -> Bytes {
    x_log_data_at(lsn, 0, message)
}

/// The same, sent so many microseconds after all commits were made.
pub(crate) fn x_log_data_at(lsn: u64, clock_us: i64, message: &[u8]) -> Bytes {
    let mut body = Vec::with_capacity(message.len() + 25);
    body.push(b'w');
    body.extend(lsn.to_be_bytes());
    body.extend(lsn.to_be_bytes());
    body.extend(clock_us.to_be_bytes());
    body.extend(message);
    body.into()
}

pub(crate) fn keepalive(wal_end: u64, reply_requested: bool) -> Bytes {
    let mut body = Vec::with_capacity(18);
    body.push(b'k');
    body.extend(wal_end.to_be_bytes());
    body.extend([0; 8]);
    body.push(u8::from(reply_requested));
    body.into()
}

pub(crate) fn begin(final_lsn: u64) -> Vec<u8> {
    [&b"B"[..], &final_lsn.to_be_bytes(), &0_i64.to_be_bytes(), &7_u32.to_be_bytes()].concat()
}

pub(crate) fn commit(commit_lsn: u64, end_lsn: u64) -> Vec<u8> {
    [&b"C\0"[..], &commit_lsn.to_be_bytes(), &end_lsn.to_be_bytes(), &0_i64.to_be_bytes()].concat()
}

pub(crate) fn relation(oid: u32, name: &str) -> Vec<u8> {
    let mut data = [&b"R"[..], &oid.to_be_bytes(), b"public\0", name.as_bytes(), b"\0d"].concat();
    data.extend(5_u16.to_be_bytes());
    for column in ["id", "aggregate_type", "aggregate_id", "event_type", "payload"] {
        data.push(0);
        data.extend(column.as_bytes());
        data.push(0);
        data.extend(25_u32.to_be_bytes());
        data.extend((-1_i32).to_be_bytes());
    }
    data
}

pub(crate) fn insert(oid: u32, values: [&str; 5]) -> Vec<u8> {
    let mut data = [&b"I"[..], &oid.to_be_bytes(), b"N", &5_u16.to_be_bytes()].concat();
    for value in values {
        data.push(b't');
        data.extend(u32::try_from(value.len()).expect("a short value").to_be_bytes());
        data.extend(value.as_bytes());
    }
    data
}

pub(crate) fn message(transactional: bool, lsn: u64) -> Vec<u8> {
    [&b"M"[..], &[u8::from(transactional)], &lsn.to_be_bytes(), b"p\0", &0_u32.to_be_bytes()].concat()
}
