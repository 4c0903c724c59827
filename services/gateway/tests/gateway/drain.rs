//! A process that stops tells its streams to come back.

use std::time::{Duration, Instant};

use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{ALICE, Gateway, OPERATOR, Topics, live, reason};

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_with_the_reason_and_when_to_come_back() {
    let topics = Topics::make().await;
    let gateway = Gateway::ready(&topics, &[]).await;
    let mut streams = Vec::new();
    for user in [OPERATOR, ALICE] {
        let mut stream = gateway.watch(user, &[], live()).await.expect("a stream");
        stream.until_caught_up().await;
        streams.push(stream);
    }
    let began = Instant::now();
    gateway.context.shutdown.request();
    for stream in &mut streams {
        let status = stream.end().await;
        assert_eq!(reason(&status), (Code::Unavailable, "DRAINING".to_owned()));
        let details = status.get_error_details();
        assert!(details.retry_info().is_some_and(|info| info.retry_delay.is_some()));
    }
    drop(streams);
    gateway.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
