//! Ends transactions whose end Kafka has forgotten to write.
//!
//! ```text
//!   EndTxn ─▶ decided ─▶ an end marker to every partition ─▶ complete
//!                        └ while a partition has no leader, Kafka takes it for deleted and skips its marker for good
//! ```
//!
//! So after every replica of a partition was down at once (of an unreplicated one: its broker was killed) a transaction
//! can be complete for its coordinator and open in the partition. Readers stop there, and the next transaction of the
//! same producer would share its end. Nobody but us mends it: docs/decisions/0004 has the evidence.
//!
//! The coordinator still says how it decided, until the transactional id is initialised. So before that the same
//! producer ends an empty transaction over just those partitions in the same way: no record is written or repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, ApiVersionsRequest, DescribeProducersRequest, DescribeTransactionsRequest,
    EndTxnRequest, TopicName,
};
use kafka_protocol::protocol::Request;

use super::SinkError;
use super::cluster::Cluster;
use super::ongoing;
use super::producer::transactional_ids;
use super::security::Security;
use super::topics::Topics;
use super::wire::text;
use crate::config::KafkaConfig;

/// How long a coordinator may take to load, or to end what it has decided.
const DECISION_DEADLINE: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// When the look is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The coordinator knows how the last transaction of each id was decided.
    BeforeInit,
    /// What was open has been aborted by the initialisation.
    AfterInit,
}

/// A partition of a topic.
type Partition = (String, i32);

/// Ends what is forgotten, and aborts what was never ended. Says whether there was any of the latter.
pub(super) fn end(
    config: &KafkaConfig,
    source: &str,
    topics: &Topics,
    stage: Stage,
) -> Result<bool, SinkError> {
    let cluster = match cluster_to_ask(config, topics)? {
        Ok(cluster) => cluster,
        Err(reason) => {
            if stage == Stage::BeforeInit {
                tracing::warn!(source, reason, "not looking for transactions that Kafka forgot to end");
            }
            return Ok(false);
        }
    };
    let mut transactions = Vec::new();
    for id in transactional_ids(source) {
        transactions.extend(settled(&cluster, &id)?);
    }
    if transactions.is_empty() {
        return Ok(false);
    }
    let open = open_partitions(&cluster)?;
    let mut ongoing = Vec::new();
    for transaction in &transactions {
        if transaction.transaction_state.as_str() == "Ongoing" {
            ongoing.push(transaction.transactional_id.as_str());
        }
        let known = known_partitions(transaction);
        let ours = open.get(&transaction.producer_id.0).cloned().unwrap_or_default();
        let forgotten: Vec<&Partition> = ours.difference(&known).collect();
        if !forgotten.is_empty() {
            end_again(&cluster, transaction, &forgotten, stage)?;
        }
    }
    // Afterwards the ids are ours.
    if stage == Stage::BeforeInit {
        for id in &ongoing {
            ongoing::abort(&cluster, id)?;
        }
    }
    Ok(!ongoing.is_empty())
}

/// The cluster; an `Err` in the answer is why the client library can talk to it and we cannot.
fn cluster_to_ask(config: &KafkaConfig, topics: &Topics) -> Result<Result<Cluster, String>, SinkError> {
    let security = match Security::of(config) {
        Ok(security) => security,
        Err(reason) => return Ok(Err(reason)),
    };
    let cluster = topics.cluster(config, security)?;
    match can_describe(&cluster) {
        Ok(true) => Ok(Ok(cluster)),
        Ok(false) => Ok(Err("the cluster cannot describe them: it is older than Kafka 3.0".into())),
        Err(error) if error.is_untrusted() => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Whether the cluster knows the requests.
fn can_describe(cluster: &Cluster) -> Result<bool, SinkError> {
    let answer = cluster.any_broker()?.call(0, &ApiVersionsRequest::default())?;
    let knows = |key| answer.api_keys.iter().any(|version| version.api_key == key);
    Ok(knows(DescribeTransactionsRequest::KEY) && knows(DescribeProducersRequest::KEY))
}

/// The state of an id once nothing decided is being ended any more; `None` if the id was never used.
fn settled(cluster: &Cluster, id: &str) -> Result<Option<TransactionState>, SinkError> {
    let deadline = Instant::now() + DECISION_DEADLINE;
    loop {
        let waits_for = match state(cluster, id)? {
            Ok(state) if state.transaction_state.starts_with("Prepare") => {
                "its transaction is being ended".into()
            }
            Ok(state) => return Ok(Some(state)),
            Err(ResponseError::TransactionalIdNotFound) => return Ok(None),
            Err(
                error @ (ResponseError::CoordinatorLoadInProgress
                | ResponseError::CoordinatorNotAvailable
                | ResponseError::NotCoordinator),
            ) => error.to_string(),
            Err(error) => return Err(refused(&format!("cannot describe transactional id {id}"), error)),
        };
        if Instant::now() >= deadline {
            return Err(SinkError::unavailable(format!("waiting for transactional id {id}: {waits_for}")));
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn state(cluster: &Cluster, id: &str) -> Result<Result<TransactionState, ResponseError>, SinkError> {
    let mut coordinator = match cluster.coordinator(id)? {
        Ok(coordinator) => coordinator,
        Err(error) => return Ok(Err(error)),
    };
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![text(id).into()]);
    let states = coordinator.call(0, &request)?.transaction_states;
    let state =
        states.into_iter().next().ok_or_else(|| SinkError::unavailable("an empty answer from Kafka"))?;
    Ok(ResponseError::try_from_code(state.error_code).map_or(Ok(state), Err))
}

/// The partitions of our topics in which a transaction is open, by producer.
fn open_partitions(cluster: &Cluster) -> Result<BTreeMap<i64, BTreeSet<Partition>>, SinkError> {
    let mut by_leader: BTreeMap<i32, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
    for partition in &cluster.partitions {
        let topics = by_leader.entry(partition.leader).or_default();
        topics.entry(&partition.topic).or_default().push(partition.id);
    }
    let mut open: BTreeMap<i64, BTreeSet<Partition>> = BTreeMap::new();
    for (leader, topics) in by_leader {
        let topics = topics.into_iter().map(|(topic, partitions)| {
            TopicRequest::default().with_name(topic_name(topic)).with_partition_indexes(partitions)
        });
        let request = DescribeProducersRequest::default().with_topics(topics.collect());
        for topic in cluster.connect(leader)?.call(0, &request)?.topics {
            for partition in topic.partitions {
                if let Some(error) = ResponseError::try_from_code(partition.error_code) {
                    let doing = format!("cannot describe the producers of topic {}", topic.name.as_str());
                    return Err(refused(&doing, error));
                }
                let writing = partition.active_producers.iter().filter(|it| it.current_txn_start_offset >= 0);
                for producer in writing {
                    let partition = (topic.name.to_string(), partition.partition_index);
                    open.entry(producer.producer_id.0).or_default().insert(partition);
                }
            }
        }
    }
    Ok(open)
}

/// The partitions of the transaction that the coordinator knows to be open.
fn known_partitions(transaction: &TransactionState) -> BTreeSet<Partition> {
    let topics = transaction.topics.iter();
    topics
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic.to_string(), *partition)))
        .collect()
}

/// Ends an empty transaction over the partitions in the way that the forgotten one was decided.
fn end_again(
    cluster: &Cluster,
    transaction: &TransactionState,
    partitions: &[&Partition],
    stage: Stage,
) -> Result<(), SinkError> {
    let id = transaction.transactional_id.as_str();
    let committed = match (transaction.transaction_state.as_str(), stage) {
        ("CompleteCommit", _) => true,
        ("CompleteAbort", _) | ("Empty", Stage::AfterInit) => false,
        (state, _) => {
            let (topic, partition) = partitions[0];
            return Err(SinkError::unavailable(format!(
                "a transaction of {id} stays open on topic {topic}, partition {partition}, and Kafka no longer knows how it \
                 was decided ({state}): see docs/guarantees.md"
            )));
        }
    };
    tracing::warn!(
        kafka.transactional_id = id,
        kafka.partitions = ?partitions,
        committed,
        "ending a transaction that Kafka decided and has forgotten to end"
    );
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(partitions)
    });
    let doing = format!("cannot end the forgotten transaction of {id}");
    let mut coordinator = cluster.coordinator(id)?.map_err(|error| refused(&doing, error))?;
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(transaction.transactional_id.clone())
        .with_v3_and_below_producer_id(transaction.producer_id)
        .with_v3_and_below_producer_epoch(transaction.producer_epoch)
        .with_v3_and_below_topics(topics.collect());
    let added = coordinator.call(3, &request)?.results_by_topic_v3_and_below;
    let results = added.iter().flat_map(|topic| &topic.results_by_partition);
    let mut errors =
        results.filter_map(|partition| ResponseError::try_from_code(partition.partition_error_code));
    if let Some(error) = errors.next() {
        return Err(refused(&doing, error));
    }
    let request = EndTxnRequest::default()
        .with_transactional_id(transaction.transactional_id.clone())
        .with_producer_id(transaction.producer_id)
        .with_producer_epoch(transaction.producer_epoch)
        .with_committed(committed);
    let ended = coordinator.call(3, &request)?;
    ResponseError::try_from_code(ended.error_code).map_or(Ok(()), |error| Err(refused(&doing, error)))
}

fn refused(doing: &str, error: ResponseError) -> SinkError {
    SinkError::unavailable(format!("{doing}: {error}"))
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}
