//! Whatever arrives, the reader answers; it never panics, and never takes a part for the whole.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use replication_protocol::pgoutput::Message;
use replication_protocol::{CopyData, frame};

use crate::sessions::{BINARY, TEXT, bodies, plugin_data};

#[test]
fn every_truncation_of_a_plugin_message_is_an_error() {
    for data in plugin_data(BINARY).into_iter().chain(plugin_data(TEXT)) {
        for length in 0..data.len() {
            let part = data.slice(..length);
            assert!(Message::parse(part.clone()).is_err(), "{length} bytes of {data:?} were taken");
        }
    }
}

#[test]
fn every_truncation_inside_a_copy_data_header_is_an_error() {
    for body in bodies(BINARY) {
        let header_bytes = if body.first() == Some(&b'w') { 25 } else { 18 };
        for length in 0..header_bytes {
            assert!(CopyData::parse(body.slice(..length)).is_err(), "{length} bytes of {body:?} were taken");
        }
    }
}

#[test]
fn a_byte_too_many_is_an_error() {
    for data in plugin_data(BINARY) {
        let longer: Bytes = [&data[..], &[0]].concat().into();
        assert!(Message::parse(longer).is_err(), "{data:?} and one byte were taken");
    }
}

#[test]
fn false_counts_and_lengths_end_in_an_error() {
    for data in [
        &b"T\xFF\xFF\xFF\xFF\0"[..],             // four thousand million relations
        b"I\0\0\0\x01N\xFF\xFF",                 // 65 535 columns
        b"I\0\0\0\x01N\0\x01b\xFF\xFF\xFF\xFF",  // a column of length -1
        b"I\0\0\0\x01N\0\x01b\x7F\xFF\xFF\xFFx", // a column longer than the message
        b"I\0\0\0\x01N\0\x01x",                  // a column of no known kind
        b"I\0\0\0\x01K\0\0",                     // an old row where the new one belongs
        b"R\0\0\0\x01no end of this name",       //
        b"R\0\0\0\x01\0\xFF\xFE\0d\0\0",         // a name that is not UTF-8
        b"M\x01\0\0\0\0\0\0\0\x01p\0\x80\0\0\0", // content of negative length
    ] {
        assert!(Message::parse(Bytes::from_static(data)).is_err(), "{data:?} was taken");
    }
}

#[test]
fn a_tag_of_a_later_version_is_a_value() {
    // Stream start of protocol version 2.
    let data = Bytes::from_static(b"S\0\0\x02\xE0\x01");
    assert_eq!(Message::parse(data), Ok(Message::Unknown(b'S')));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        read_everything(bytes.into());
    }

    #[test]
    fn a_message_with_a_few_bytes_changed_never_panics(
        pick in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let session = plugin_data(BINARY);
        let mut bytes = pick.get(&session).to_vec();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        read_everything(bytes.into());
    }

    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..16),
        cut_bytes in 1_usize..80,
    ) {
        let mut wire = BytesMut::new();
        for body in &frames {
            frame::put_copy_data(body, &mut wire);
        }
        let mut buffer = BytesMut::new();
        let mut received = Vec::new();
        for piece in wire.chunks(cut_bytes) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = frame::split(&mut buffer, 1024).unwrap() {
                prop_assert_eq!(frame.tag, b'd');
                received.push(frame.body.to_vec());
            }
        }
        prop_assert_eq!(received, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn a_stream_of_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = frame::split(&mut buffer, 256) {
            read_everything(frame.body);
        }
    }
}

/// Parses the bytes in every way, down to the last column.
fn read_everything(bytes: Bytes) {
    if let Ok(CopyData::XLogData(piece)) = CopyData::parse(bytes.clone()) {
        read_message(piece.data);
    }
    read_message(bytes);
}

fn read_message(data: Bytes) {
    let rows = match Message::parse(data) {
        Ok(Message::Insert(insert)) => vec![insert.new],
        Ok(Message::Update(update)) => update.old.into_iter().chain([update.new]).collect(),
        Ok(Message::Delete(delete)) => vec![delete.old],
        Ok(_) | Err(_) => vec![],
    };
    for row in rows {
        assert_eq!(row.columns().count(), row.len(), "a row that parsed has all its columns");
    }
}
