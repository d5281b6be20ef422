//! Subscription by a pattern: to whatever topics have a name that matches.
//!
//! The names are matched here, against all topics that the brokers list, whenever they have been asked
//! anew (`metadata.max.age.ms`); the group hears of names alone, so that any broker will do. Internal
//! topics match nothing. A topic that comes later is read from its beginning, as a partition that
//! comes later is.
//!
//! Source: `Consumer.subscribe(Pattern)` of Apache Kafka, topics that begin with `^` of librdkafka.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::{Baseline, Consumer};
use crate::client::group::Group;
use crate::ids::TopicId;
use crate::time::Now;
use crate::wire::KafkaString;

/// Which names of topics are meant. What a pattern looks like is the caller's affair; the answer for
/// a name must always be the same.
#[derive(Clone)]
pub struct TopicPattern {
    text: Arc<str>,
    matches: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl TopicPattern {
    /// Makes a pattern of its text, which is for people, and of what tells whether a name matches.
    pub fn new(
        text: impl Into<Arc<str>>,
        matches: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { text: text.into(), matches: Arc::new(matches) }
    }

    /// Returns the pattern as people write it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        (self.matches)(name)
    }
}

impl fmt::Debug for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TopicPattern").field(&self.text).finish()
    }
}

/// A pattern that is subscribed to.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pattern: TopicPattern,
    /// The answer about topics that was matched last, by its number.
    matched: Option<u64>,
}

impl Consumer {
    /// Joins the group for all topics whose names match, in place of others, and goes on with those
    /// that come to match or are no more. The group is not joined before there is one. Without a
    /// group, or after it is closed, nothing happens. [`Consumer::subscription`] tells the topics.
    pub fn subscribe_pattern(&mut self, now: Now, pattern: TopicPattern) {
        if self.is_closing || self.group.is_none() {
            return;
        }
        if self.subscribed.is_empty() {
            self.unassign_all();
        }
        self.is_overdue = false;
        self.followed = Some(Followed { pattern, matched: None });
        if let Some(group) = &mut self.group {
            group.follow_every_topic(now, true);
        }
        self.drive(now);
    }

    /// Returns the pattern that is subscribed to.
    pub fn pattern(&self) -> Option<&TopicPattern> {
        self.followed.as_ref().map(|followed| &followed.pattern)
    }

    /// Goes back to topics by their names; returns whether there was a pattern.
    pub(super) fn forget_pattern(&mut self, now: Now) -> bool {
        let had = self.followed.take().is_some();
        if had && let Some(group) = &mut self.group {
            group.follow_every_topic(now, false);
        }
        had
    }

    /// Subscribes to what matches, where there is news.
    pub(super) fn match_topics(&mut self, now: Now) {
        let Some(followed) = self.followed.as_mut().filter(|_| !self.is_overdue) else { return };
        let Some(metadata) = self.group.as_ref().map(Group::metadata) else { return };
        if !metadata.is_told_of_all() || followed.matched == Some(metadata.answers()) {
            return;
        }
        let is_first = followed.matched.replace(metadata.answers()).is_none();
        let names: BTreeSet<KafkaString> = metadata
            .topics()
            .iter()
            .filter(|(name, topic)| !topic.is_internal && followed.pattern.matches(name))
            .map(|(name, _)| name.clone())
            .collect();
        if names == self.subscribed {
            return;
        }
        self.baselines.retain(|topic, _| names.contains(topic));
        if !is_first {
            for name in names.difference(&self.subscribed) {
                let baseline = Baseline { topic_id: TopicId::ZERO, partitions: 0 };
                self.baselines.insert(name.clone(), baseline);
            }
        }
        self.subscribed = names;
        if let Some(group) = &mut self.group {
            group.subscribe(now, self.subscribed.clone());
        }
    }
}
