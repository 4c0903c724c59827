//! Who may see what. Operators see all; a user sees events whose owner they are; the rest is denied.

use std::{collections::BTreeSet, sync::Arc};

use tailrace_runtime::auth::Principal;
use thiserror::Error;

use crate::event::Entry;

/// The topics this gateway serves.
#[derive(Clone, Debug)]
pub struct Catalog {
    topics: BTreeSet<Arc<str>>,
    dead_letter: Arc<str>,
}

impl Catalog {
    /// The topics for everybody, and the one for operators.
    pub fn new(topics: impl IntoIterator<Item = String>, dead_letter: String) -> Self {
        Self { topics: topics.into_iter().map(Arc::from).collect(), dead_letter: Arc::from(dead_letter) }
    }

    /// Every topic, the one for operators too.
    pub fn all(&self) -> BTreeSet<Arc<str>> {
        self.topics.iter().chain([&self.dead_letter]).cloned().collect()
    }
}

/// A topic that the caller asked for and does not get.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// Only operators may watch it.
    #[error("the topic {0:?} is for operators")]
    OperatorOnly(String),
    /// It is none of the topics served here.
    #[error("the topic {0:?} is not served here")]
    UnknownTopic(String),
}

/// What one caller may see.
#[derive(Clone, Debug)]
pub struct Filter {
    /// `None` is an operator.
    user: Option<Box<str>>,
}

impl Filter {
    /// The filter of a verified caller.
    pub fn of(principal: &Principal) -> Self {
        Self { user: (!principal.operator).then(|| Box::from(principal.user.as_str())) }
    }

    /// Whether the caller may see this event of a topic they may watch.
    pub fn allows(&self, entry: &Entry) -> bool {
        match &self.user {
            None => true,
            Some(user) => !user.is_empty() && entry.owner.as_ref() == Some(user),
        }
    }

    /// The topics the caller watches: those requested, or all they may see.
    pub fn topics(&self, requested: &[String], catalog: &Catalog) -> Result<BTreeSet<Arc<str>>, Refusal> {
        if requested.is_empty() {
            return Ok(if self.user.is_none() { catalog.all() } else { catalog.topics.clone() });
        }
        requested.iter().map(|topic| self.topic(topic, catalog)).collect()
    }

    fn topic(&self, requested: &str, catalog: &Catalog) -> Result<Arc<str>, Refusal> {
        if *requested == *catalog.dead_letter {
            return match self.user {
                None => Ok(Arc::clone(&catalog.dead_letter)),
                Some(_) => Err(Refusal::OperatorOnly(requested.to_owned())),
            };
        }
        catalog.topics.get(requested).cloned().ok_or_else(|| Refusal::UnknownTopic(requested.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;

    use super::*;

    fn catalog() -> Catalog {
        Catalog::new(["users.created".to_owned(), "orders.created".to_owned()], "dead-letter".to_owned())
    }

    fn filter(user: &str, operator: bool) -> Filter {
        Filter::of(&Principal { user: user.to_owned(), operator, expires_at: SystemTime::UNIX_EPOCH })
    }

    fn entry(owner: Option<&str>) -> Entry {
        Entry { offset: 0, commit_time_us: 0, owner: owner.map(Box::from), encoded: Bytes::new() }
    }

    fn names(topics: BTreeSet<Arc<str>>) -> Vec<String> {
        topics.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_operator_sees_every_event() {
        for owner in [None, Some("users/a"), Some("")] {
            assert!(filter("users/op", true).allows(&entry(owner)));
        }
    }

    #[test]
    fn a_user_sees_only_events_they_own() {
        let filter = filter("users/a", false);
        assert!(filter.allows(&entry(Some("users/a"))));
        for owner in [None, Some(""), Some("users/b"), Some("users/A"), Some("users/ab"), Some("users/")] {
            assert!(!filter.allows(&entry(owner)), "{owner:?}");
        }
    }

    #[test]
    fn a_principal_without_a_name_sees_nothing() {
        assert!(!filter("", false).allows(&entry(Some(""))));
        assert!(!filter("", false).allows(&entry(None)));
    }

    #[test]
    fn no_topic_means_every_topic_the_caller_may_see() {
        let all = filter("users/op", true).topics(&[], &catalog()).map(names);
        assert_eq!(
            all,
            Ok(vec!["dead-letter".to_owned(), "orders.created".to_owned(), "users.created".to_owned()])
        );
        let visible = filter("users/a", false).topics(&[], &catalog()).map(names);
        assert_eq!(visible, Ok(vec!["orders.created".to_owned(), "users.created".to_owned()]));
    }

    #[test]
    fn dead_letters_are_for_operators() {
        let asked = ["dead-letter".to_owned()];
        assert!(filter("users/op", true).topics(&asked, &catalog()).is_ok());
        assert_eq!(
            filter("users/a", false).topics(&asked, &catalog()),
            Err(Refusal::OperatorOnly("dead-letter".to_owned()))
        );
    }

    #[test]
    fn a_topic_that_is_not_served_is_refused() {
        let asked = ["tailrace.position.users".to_owned()];
        assert_eq!(
            filter("users/op", true).topics(&asked, &catalog()),
            Err(Refusal::UnknownTopic("tailrace.position.users".to_owned()))
        );
    }
}
