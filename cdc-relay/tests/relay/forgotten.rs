//! Transactions that Kafka decided and forgot to end, made as its own omission leaves them: the coordinator says that
//! the producer's transaction is complete, and a partition holds records of it without an end.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, DescribeProducersRequest, DescribeTransactionsRequest, EndTxnRequest,
    InitProducerIdRequest, ProduceRequest, RequestHeader, ResponseHeader, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes};
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

use service_testing::CertificateAuthority;
use xtask::native::Scratch;

use crate::link::Protocol;
use crate::support::{DEADLINE, Servers, Source, check_exactly_once};

/// Lets a producer write to a partition that its coordinator does not know of.
const WITHOUT_VERIFICATION: &[(&str, &str)] = &[("transaction.partition.verification.enable", "false")];
/// The coordinator is still busy with the last transaction of the id.
const CONCURRENT_TRANSACTIONS: i16 = 51;
const COMMIT: bool = true;
const ABORT: bool = false;

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_transaction_that_kafka_forgot_to_end_is_committed() {
    let servers = Servers::start_with(&[], WITHOUT_VERIFICATION).await;
    check_committed(&servers.source().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_transaction_is_ended_over_tls_with_a_certificate_and_a_password() {
    let (authority, files) = (CertificateAuthority::new(), Scratch::new().expect("a folder"));
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let ca = file("ca.pem", &authority.pem());
    let (certificate, key) = authority.sign("127.0.0.1");
    let broker = file("broker.pem", &format!("{key}{certificate}"));
    let (certificate, key) = authority.sign("relay");
    let (certificate, key) = (file("relay.pem", &certificate), file("relay.key", &key));
    let settings = [
        WITHOUT_VERIFICATION[0],
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,LINK:SASL_SSL,CONTROLLER:PLAINTEXT"),
        ("listener.name.link.ssl.keystore.type", "PEM"),
        ("listener.name.link.ssl.keystore.location", &broker),
        ("listener.name.link.ssl.truststore.type", "PEM"),
        ("listener.name.link.ssl.truststore.location", &ca),
        ("listener.name.link.ssl.client.auth", "required"),
        ("listener.name.link.sasl.enabled.mechanisms", "PLAIN"),
        (
            "listener.name.link.plain.sasl.jaas.config",
            "org.apache.kafka.common.security.plain.PlainLoginModule required user_relay=\"secret\";",
        ),
    ];
    let servers = Servers::start_over(Protocol::Opaque, &[], &settings).await;
    let source = servers.source().await;
    let properties = format!(
        "[kafka.properties]\n\"security.protocol\" = \"sasl_ssl\"\n\"ssl.ca.location\" = \"{ca}\"\n\
         \"ssl.certificate.location\" = \"{certificate}\"\n\"ssl.key.location\" = \"{key}\"\n\
         \"sasl.mechanisms\" = \"PLAIN\"\n\"sasl.username\" = \"relay\"\n\"sasl.password\" = \"secret\"\n\
         [[source]]"
    );
    source.configure(&source.linked_config().replace("[[source]]", &properties));
    check_committed(&source).await;
}

async fn check_committed(source: &Source<'_>) {
    let mut relay = source.running().await;
    source.write([("a", 1), ("a", 2)]).await;
    source.write([("a", 3)]).await;
    assert_eq!(source.published(&source.topic(), 3).await.len(), 3);
    assert_eq!(relay.stop(), Some(0));

    // Published, and its end is missing: nobody sees it, and nobody may publish it again.
    let producer = Producer::of(source, 0);
    producer.end_empty_transaction(COMMIT);
    source.write([("b", 1)]).await;
    producer.leave_open(source, "b", 1).await;

    let relay = source.relay();
    relay.ready().await;
    source.write([("a", 4)]).await;
    let events = source.published(&source.topic(), 5).await;
    check_exactly_once(&events, &BTreeMap::from([("a".into(), 4), ("b".into(), 1)]));
    assert!(relay.log().contains("forgotten to end"), "{}", relay.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_transaction_that_kafka_forgot_to_end_is_aborted() {
    let servers = Servers::start_with(&[], WITHOUT_VERIFICATION).await;
    let source = servers.source().await;
    let mut relay = source.running().await;
    source.write([("a", 1)]).await;
    assert_eq!(source.published(&source.topic(), 1).await.len(), 1);
    assert_eq!(relay.stop(), Some(0));

    // Aborted, and its end is missing: it must be published, and not be seen twice.
    let producer = Producer::of(&source, 1);
    producer.end_empty_transaction(ABORT);
    source.write([("b", 1)]).await;
    producer.leave_open(&source, "b", 1).await;

    let relay = source.relay();
    relay.ready().await;
    source.write([("a", 2)]).await;
    let events = source.published(&source.topic(), 3).await;
    check_exactly_once(&events, &BTreeMap::from([("a".into(), 2), ("b".into(), 1)]));
    assert!(relay.log().contains("forgotten to end"), "{}", relay.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_which_nobody_knows_how_it_was_decided_stops_the_source() {
    let servers = Servers::start_with(&[], WITHOUT_VERIFICATION).await;
    let source = servers.source().await;
    assert!(source.init().status.success());
    // Initialised and not used since: Kafka says "Empty".
    Producer::of(&source, 0).initialise();
    let producer = Producer::of(&source, 0);
    source.write([("b", 1)]).await;
    producer.leave_open(&source, "b", 1).await;

    let relay = source.relay();
    relay.not_ready_because("Kafka no longer knows how it was decided").await;
    assert_eq!(source.published(&source.topic(), 0).await.len(), 0);
}

/// Both producers of the source as their coordinator knows them: whoever initialises one changes it.
pub(crate) fn producers(source: &Source<'_>) -> [(i64, i16); 2] {
    [0, 1].map(|turn| {
        let state = Producer::of(source, turn).state;
        (state.producer_id.0, state.producer_epoch)
    })
}

/// One of the source's two producers, as its coordinator knows it.
struct Producer {
    broker: String,
    state: TransactionState,
}

impl Producer {
    fn of(source: &Source<'_>, turn: usize) -> Self {
        let broker = source.servers.kafka.bootstrap();
        let state = describe(&broker, text(&format!("tailrace-{}-{turn}", source.name)).into());
        Self { broker, state }
    }

    fn initialise(&self) {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.state.transactional_id.clone()))
            .with_transaction_timeout_ms(10_000);
        // The coordinator may still be writing the ends of the last transaction.
        let deadline = Instant::now() + DEADLINE;
        loop {
            match call(&self.broker, 3, &request).error_code {
                0 => return,
                CONCURRENT_TRANSACTIONS if Instant::now() < deadline => {}
                code => panic!("Kafka answers {code}"),
            }
        }
    }

    /// Makes the coordinator say how the last transaction was decided.
    fn end_empty_transaction(&self, committed: bool) {
        let topic = self.state.transactional_id.as_str();
        let position =
            topic.strip_prefix("tailrace-").and_then(|rest| rest.rsplit_once('-')).expect("an id").0;
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(TopicName(text(&format!("tailrace.position.{position}"))))
            .with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.state.transactional_id.clone())
            .with_v3_and_below_producer_id(self.state.producer_id)
            .with_v3_and_below_producer_epoch(self.state.producer_epoch)
            .with_v3_and_below_topics(vec![topic]);
        let added = call(&self.broker, 3, &request);
        assert_eq!(added.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code, 0);
        let request = EndTxnRequest::default()
            .with_transactional_id(self.state.transactional_id.clone())
            .with_producer_id(self.state.producer_id)
            .with_producer_epoch(self.state.producer_epoch)
            .with_committed(committed);
        assert_eq!(call(&self.broker, 3, &request).error_code, 0);
        // What is written before its end marker is would be ended by that.
        let deadline = Instant::now() + DEADLINE;
        while !describe(&self.broker, self.state.transactional_id.clone())
            .transaction_state
            .starts_with("Complete")
        {
            assert!(Instant::now() < deadline, "the transaction is not ended");
        }
    }

    /// Writes an event and a position behind it, and no end.
    async fn leave_open(&self, source: &Source<'_>, key: &str, version: i64) {
        let last = source.last_position();
        let resume_lsn = source.wal_end().await;
        let position = last.replace(&resume_lsn_of(&last), &resume_lsn);
        assert_ne!(position, last);
        self.produce(&source.topic(), key, br#"{"n": 0}"#, Some(version));
        self.produce(&format!("tailrace.position.{}", source.name), &source.name, position.as_bytes(), None);
    }

    fn produce(&self, topic: &str, key: &str, value: &[u8], version: Option<i64>) {
        let header =
            |version: i64| (text("tailrace_aggregate_version"), Some(Bytes::from(version.to_string())));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let record = Record {
            transactional: true,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: self.state.producer_id.0,
            producer_epoch: self.state.producer_epoch,
            timestamp_type: TimestampType::Creation,
            offset: 0,
            sequence: self.next_sequence(topic),
            timestamp: i64::try_from(now).expect("a time"),
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: Some(Bytes::copy_from_slice(value)),
            headers: version.map(header).into_iter().collect(),
        };
        let mut batch = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut batch, [&record], &options).expect("a batch");
        let partition = PartitionProduceData::default().with_index(0).with_records(Some(batch.freeze()));
        let topic = TopicProduceData::default()
            .with_name(TopicName(text(topic)))
            .with_partition_data(vec![partition]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.state.transactional_id.clone()))
            .with_acks(-1)
            .with_timeout_ms(5_000)
            .with_topic_data(vec![topic]);
        let answer = call(&self.broker, 9, &request);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "{answer:?}");
    }

    /// What the partition's leader expects next of the producer.
    fn next_sequence(&self, topic: &str) -> i32 {
        let topic = TopicRequest::default().with_name(TopicName(text(topic))).with_partition_indexes(vec![0]);
        let answer = call(&self.broker, 0, &DescribeProducersRequest::default().with_topics(vec![topic]));
        let producers = &answer.topics[0].partitions[0].active_producers;
        let ours = producers.iter().find(|producer| {
            producer.producer_id == self.state.producer_id
                && producer.producer_epoch == i32::from(self.state.producer_epoch)
        });
        ours.map_or(0, |producer| producer.last_sequence + 1)
    }
}

fn describe(broker: &str, id: TransactionalId) -> TransactionState {
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id]);
    let state = call(broker, 0, &request).transaction_states.remove(0);
    assert_eq!(state.error_code, 0, "{state:?}");
    state
}

fn resume_lsn_of(position: &str) -> String {
    let record: serde_json::Value = serde_json::from_str(position).expect("a position record");
    record["position"]["resume_lsn"].as_str().expect("an LSN").to_owned()
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// One request on a connection of its own.
pub(crate) fn call<R: Request>(broker: &str, version: i16, request: &R) -> R::Response {
    let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version)).expect("a header");
    request.encode(&mut body, version).expect("a request");
    let mut stream = TcpStream::connect(broker).expect("the broker listens");
    stream.write_all(&u32::try_from(body.len()).expect("small").to_be_bytes()).expect("written");
    stream.write_all(&body).expect("written");
    let mut len = [0; 4];
    stream.read_exact(&mut len).expect("an answer");
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(len)).expect("small")];
    stream.read_exact(&mut answer).expect("the answer");
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, R::Response::header_version(version)).expect("a header");
    R::Response::decode(&mut answer, version).expect("the answer asked for")
}
