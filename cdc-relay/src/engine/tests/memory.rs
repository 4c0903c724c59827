//! What a row costs between socket and producer.

use allocation_counter::measure;
use bytes::BytesMut;

use super::*;

const ROWS: usize = 10_000;
const PAYLOAD_BYTES: usize = 300;

/// Frames of one transaction as they are cut from what the socket was read into.
fn received() -> (Bytes, Vec<Bytes>) {
    let row = insert(RELATION_OID, "a", "users.created.v1", PAYLOAD_BYTES);
    let frames = [begin(200)].into_iter().chain((0..ROWS).map(|_| row.clone())).chain([commit(200, 210)]);
    let frames: Vec<_> = frames.map(|data| x_log_data(&data)).collect();
    let mut buffer = BytesMut::from(&frames.concat()[..]);
    let all = buffer.split().freeze();
    let mut from = 0;
    let cut = frames.iter().map(|frame| {
        from += frame.len();
        all.slice(from - frame.len()..from)
    });
    let cut = cut.collect();
    (all, cut)
}

#[test]
fn a_row_costs_no_allocation_and_no_copy_of_its_payload() {
    let mut bench = Bench::starting_at(Position::at(Lsn::new(100)), usize::MAX);
    let (buffer, frames) = received();
    let decoded = measure(|| {
        for frame in frames {
            bench.engine.handle_copy_data(bench.now, frame).expect("a good frame");
        }
    });
    let batch = bench.published().expect("a batch");
    assert_eq!(batch.records.len(), ROWS);
    // Many records share the memory of their headers, and the list of them grows.
    eprintln!("{ROWS} rows: {} allocations, {} bytes", decoded.count_total, decoded.bytes_total);
    assert!(decoded.count_total < ROWS as u64 / 50, "{decoded:?}");

    let is_inside = |value: &Bytes| buffer.as_ptr_range().contains(&value.as_ptr());
    assert!(batch.records.iter().all(|record| record.value.as_ref().is_some_and(is_inside)));
    assert!(batch.records.iter().all(|record| is_inside(&record.key)));
}
