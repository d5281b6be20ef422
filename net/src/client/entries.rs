//! What administrators ask about records that wait, and do to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mainspring_core::client::ClientError;
use mainspring_core::client::admin::{AdminTarget, describe_topic_configs};
use mainspring_core::client::entries::{
    Alteration, Cursor, Entry, EntryName, EntryState, Page, Wanted, alter_entry, altered,
    list_entries, listed,
};
use mainspring_core::client::producer::accumulator::Place;
use mainspring_core::error::ErrorCode;
use mainspring_core::ids::NodeId;
use mainspring_core::wire::{KafkaString, Response};

use super::operations::{About, Asks, Operations, leaders};
use crate::rt;

/// Most entries of one partition in one answer.
const PAGE: usize = 1_000;
/// The setting of a topic that lists what its records may ask for.
const FEATURES: &str = "mainspring.features";
/// Pause before a leader that is not ready is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// How far the list of a partition has come.
#[derive(Clone, Copy, Default)]
struct Progress {
    cursor: Option<Cursor>,
    count: usize,
}

impl<A: Asks> Operations<A> {
    /// Lists what waits in topics, those that are named or all but the broker's own, at most `limit` entries. Those
    /// that come by time are in the order in which they come, others by topic, partition and ticket. Leaders that
    /// are not ready are asked again.
    ///
    /// # Errors
    /// There is no such topic, a leader's refusal, or `UnsupportedApi` where a broker does not announce the request.
    pub async fn entries(
        &mut self,
        topics: Option<&[KafkaString]>,
        wanted: &Wanted,
        limit: usize,
    ) -> Result<Vec<Entry>, A::Failure> {
        let mut leaders = self.leaders_of(topics).await?;
        let mut open: BTreeMap<Place, Progress> =
            leaders.keys().map(|place| (place.clone(), Progress::default())).collect();
        let mut found = Vec::new();
        let mut tries = self.tries();
        while !open.is_empty() && limit > 0 {
            let mut failed = None;
            for (place, answer) in self.ask_for_pages(&leaders, &open, wanted, limit).await? {
                match answer {
                    Ok(page) => {
                        let Some(progress) = open.get_mut(&place) else { continue };
                        progress.count += page.entries.len();
                        progress.cursor = page.next;
                        found.extend(page.entries);
                        if page.next.is_none() || progress.count >= limit {
                            open.remove(&place);
                        }
                    }
                    Err(error) => failed = Some((place, error)),
                }
            }
            if let Some((place, error)) = failed {
                tries = tries.saturating_sub(1);
                if !error.is_retriable() || tries == 0 {
                    return Err(About::Partition(place).refused(error).into());
                }
                rt::sleep(PAUSE).await;
                leaders = self.leaders_of(topics).await?;
                // A topic that was deleted meanwhile has nothing that waits.
                open.retain(|place, _| leaders.contains_key(place));
            }
        }
        if let Wanted::Scheduled { .. } = wanted {
            found.sort_by(|left, right| order_of(left).cmp(&order_of(right)));
        } else {
            found.sort_by(|left, right| {
                (&left.place, left.ticket).cmp(&(&right.place, right.ticket))
            });
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn ask_for_pages(
        &mut self,
        leaders: &BTreeMap<Place, NodeId>,
        open: &BTreeMap<Place, Progress>,
        wanted: &Wanted,
        limit: usize,
    ) -> Result<Vec<(Place, Result<Page, ClientError>)>, A::Failure> {
        let mut answers = Vec::new();
        let mut by_leader: BTreeMap<NodeId, Vec<(&Place, Option<Cursor>)>> = BTreeMap::new();
        for (place, progress) in open {
            if let Some(leader) = leaders.get(place).filter(|leader| leader.0 >= 0) {
                by_leader.entry(*leader).or_default().push((place, progress.cursor));
            } else {
                let error = ClientError::Broker(ErrorCode::LeaderNotAvailable);
                answers.push((place.clone(), Err(error)));
            }
        }
        let page = limit.min(PAGE) as i32;
        let requests = by_leader.iter().map(|(leader, places)| {
            (AdminTarget::Node(*leader), list_entries(places, wanted, page).into())
        });
        let told = self.asks.ask_all(requests.collect()).await?;
        for (places, told) in by_leader.into_values().zip(told) {
            for (place, _) in places {
                let page = match &told {
                    Ok(Response::EntryList(response)) => listed(response, place),
                    Ok(_) => Err(About::Cluster.strange().error),
                    Err(error) => Err(error.clone()),
                };
                answers.push((place.clone(), page));
            }
        }
        Ok(answers)
    }

    /// Finds an entry of a partition, also one that has ended, as long as that is remembered.
    ///
    /// # Errors
    /// As [`entries`](Self::entries), and where there is no such partition.
    pub async fn entry(
        &mut self,
        place: &Place,
        name: &EntryName,
    ) -> Result<Option<Entry>, A::Failure> {
        let topics = std::slice::from_ref(&place.0);
        self.check_partition(place).await?;
        let found = self.entries(Some(topics), &Wanted::One(name.clone()), usize::MAX).await?;
        Ok(found.into_iter().find(|entry| entry.place == *place))
    }

    /// Does something to an entry, and returns once that is committed. A leader that is not ready, and an entry that
    /// is on its way out, are tried again.
    ///
    /// # Errors
    /// The leader's refusal: `INVALID_RECORD` where there is no such entry or it is too late.
    pub async fn alter_entry(
        &mut self,
        place: &Place,
        name: &EntryName,
        alteration: Alteration,
    ) -> Result<(), A::Failure> {
        let about = About::Partition(place.clone());
        let mut tries = self.tries();
        loop {
            let leader = self.check_partition(place).await?;
            let error = if leader.0 < 0 {
                ClientError::Broker(ErrorCode::LeaderNotAvailable)
            } else {
                let request = alter_entry(place, name, alteration);
                let target = AdminTarget::Node(leader);
                let Response::EntryAlter(response) = self.ask(&about, target, request).await?
                else {
                    return Err(about.strange().into());
                };
                match altered(&response, place) {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                }
            };
            tries = tries.saturating_sub(1);
            // What may have been done is not done again.
            if !error.is_retriable() || !error.is_refusal() || tries == 0 {
                return Err(about.refused(error).into());
            }
            rt::sleep(PAUSE).await;
        }
    }

    /// Says where an entry was delivered, if it was: what makes a cancel too late.
    ///
    /// # Errors
    /// As [`entry`](Self::entry).
    pub async fn delivered_at(
        &mut self,
        place: &Place,
        name: &EntryName,
    ) -> Result<Option<i64>, A::Failure> {
        let found = self.entry(place, name).await?;
        let delivered = found
            .filter(|entry| matches!(entry.state, EntryState::Delivered | EntryState::Committed));
        Ok(delivered.and_then(|entry| entry.offset).map(|offset| offset.0))
    }

    /// Finds what records of a topic may ask for by their headers (`mainspring.features`); nothing at another broker.
    ///
    /// # Errors
    /// There is no such topic, or the broker's refusal.
    pub async fn features(&mut self, topic: &KafkaString) -> Result<Vec<String>, A::Failure> {
        let about = About::Topic(topic.clone());
        let request = describe_topic_configs(topic.clone());
        let Response::DescribeConfigs(response) =
            self.ask(&about, AdminTarget::Any, request).await?
        else {
            return Err(about.strange().into());
        };
        let result = response.results.first().ok_or_else(|| about.clone().strange())?;
        about.check(result.error_code, result.error_message.as_ref())?;
        let found = result.configs.iter().find(|config| &*config.name == FEATURES);
        let features = found.and_then(|config| config.value.as_deref()).unwrap_or_default();
        let features = features.split(',').map(str::trim).filter(|feature| !feature.is_empty());
        Ok(features.map(str::to_owned).collect())
    }

    fn tries(&self) -> u128 {
        (self.timeout().as_millis() / PAUSE.as_millis()).max(1)
    }

    async fn check_partition(&mut self, place: &Place) -> Result<NodeId, A::Failure> {
        let leaders = self.leaders_of(Some(std::slice::from_ref(&place.0))).await?;
        let missing = ClientError::Broker(ErrorCode::UnknownTopicOrPartition);
        let leader = leaders.get(place).copied();
        Ok(leader.ok_or_else(|| About::Partition(place.clone()).refused(missing))?)
    }

    async fn leaders_of(
        &mut self,
        topics: Option<&[KafkaString]>,
    ) -> Result<BTreeMap<Place, NodeId>, A::Failure> {
        let mut metadata = self.metadata(topics).await?;
        let found: BTreeSet<&KafkaString> =
            metadata.topics.iter().filter_map(|topic| topic.name.as_ref()).collect();
        if let Some(missing) = topics.into_iter().flatten().find(|name| !found.contains(name)) {
            return Err(About::Topic(missing.clone()).strange().into());
        }
        if topics.is_some() {
            for topic in &metadata.topics {
                let about = About::Topic(topic.name.clone().unwrap_or_default());
                about.check(topic.error_code, None)?;
            }
        } else {
            metadata.topics.retain(|topic| !topic.is_internal);
        }
        Ok(leaders(&metadata.topics))
    }
}

fn order_of(entry: &Entry) -> (Option<i64>, &Place, i64) {
    (entry.due_ms, &entry.place, entry.ticket.0)
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use std::collections::VecDeque;

    use mainspring_core::ids::{Offset, PartitionIndex};
    use mainspring_core::wire::Request;
    use mainspring_core::wire::api::entry_alter::{
        AlteredEntry, AlteredEntryTopic, EntryAlterResponse,
    };
    use mainspring_core::wire::api::entry_list::{
        EntryListResponse, ListedEntry, ListedEntryPartition, ListedEntryTopic,
    };
    use mainspring_core::wire::api::metadata::{
        MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
    };

    use super::super::operations::Refusal;
    use super::*;

    const T: KafkaString = KafkaString::from_static("t");

    /// Answers from entries of two partitions, with pages of two; refusals come first.
    #[derive(Default)]
    struct Leader {
        due: [Vec<(i64, i64)>; 2],
        refusals: VecDeque<ErrorCode>,
        asked: usize,
    }

    impl Leader {
        fn list(&self, index: usize, after: i64) -> ListedEntryPartition {
            let left: Vec<_> = self.due[index].iter().filter(|(_, at)| *at > after).collect();
            let entries = left.iter().take(2).map(|(due_ms, ticket)| ListedEntry {
                ticket: *ticket,
                due_ms: *due_ms,
                state: 1,
                ..ListedEntry::default()
            });
            ListedEntryPartition {
                partition_index: index as i32,
                has_more: left.len() > 2,
                entries: entries.collect(),
                ..ListedEntryPartition::default()
            }
        }

        fn answer(&mut self, request: &Request) -> Response {
            if let Request::EntryList(asked) = request {
                self.asked += 1;
                let refused = self.refusals.pop_front();
                let partitions = asked.topics[0].partitions.iter().map(|asked| match refused {
                    None => self.list(asked.partition_index as usize, asked.after_ticket),
                    Some(code) => ListedEntryPartition {
                        partition_index: asked.partition_index,
                        error_code: code.code(),
                        ..ListedEntryPartition::default()
                    },
                });
                let topic = ListedEntryTopic { name: T, partitions: partitions.collect() };
                return EntryListResponse { topics: vec![topic], ..Default::default() }.into();
            }
            if let Request::EntryAlter(asked) = request {
                self.asked += 1;
                let code = self.refusals.pop_front().unwrap_or(ErrorCode::None);
                let one = AlteredEntry {
                    partition_index: asked.topics[0].alterations[0].partition_index,
                    error_code: code.code(),
                    error_message: None,
                };
                let topic = AlteredEntryTopic { name: T, alterations: vec![one] };
                return EntryAlterResponse { topics: vec![topic], ..Default::default() }.into();
            }
            let partition = |index| MetadataResponsePartition {
                partition_index: index,
                leader_id: 1,
                ..MetadataResponsePartition::default()
            };
            let topic = MetadataResponseTopic {
                name: Some(T),
                partitions: vec![partition(0), partition(1)],
                ..MetadataResponseTopic::default()
            };
            MetadataResponse { topics: vec![topic], ..MetadataResponse::default() }.into()
        }
    }

    impl Asks for Leader {
        type Failure = Refusal;

        async fn ask_all(
            &mut self,
            requests: Vec<(AdminTarget, Request)>,
        ) -> Result<Vec<Result<Response, ClientError>>, Refusal> {
            Ok(requests.iter().map(|(_, request)| Ok(self.answer(request))).collect())
        }
    }

    #[expect(clippy::unwrap_in_result, reason = "a test without a runtime has failed")]
    fn run<T>(
        leader: &mut Leader,
        operation: impl AsyncFnOnce(&mut Operations<Leader>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let timeout = PAUSE * 3;
        let mut operations = Operations::new(std::mem::take(leader), timeout);
        let done = rt::block_on(operation(&mut operations)).expect("there is a runtime");
        *leader = operations.asks;
        done
    }

    fn list(leader: &mut Leader, limit: usize) -> Result<Vec<(i64, i32, i64)>, Refusal> {
        let wanted = Wanted::Scheduled { until_ms: i64::MAX };
        let found = run(leader, async move |it| it.entries(Some(&[T]), &wanted, limit).await)?;
        let row = |entry: &Entry| (entry.due_ms.unwrap_or(-1), entry.place.1.0, entry.ticket.0);
        Ok(found.iter().map(row).collect())
    }

    fn two_partitions() -> Leader {
        Leader { due: [vec![(1, 0), (4, 1), (9, 2)], vec![(2, 0), (3, 5)]], ..Leader::default() }
    }

    #[test]
    fn pages_of_all_partitions_are_one_list_in_the_order_in_which_they_come() {
        let mut leader = two_partitions();
        let all = list(&mut leader, usize::MAX).expect("it answers");
        assert_eq!(all, [(1, 0, 0), (2, 1, 0), (3, 1, 5), (4, 0, 1), (9, 0, 2)]);
        assert_eq!(leader.asked, 2, "only what has more is asked again");
        assert_eq!(list(&mut leader, 3).expect("it answers"), all[..3]);
        assert_eq!(list(&mut leader, 0).expect("it answers"), []);
    }

    #[test]
    fn a_leader_that_reads_its_log_is_asked_again_and_one_that_refuses_is_not() {
        let mut leader = two_partitions();
        leader.refusals.push_back(ErrorCode::CoordinatorLoadInProgress);
        assert_eq!(list(&mut leader, usize::MAX).expect("it answers").len(), 5);
        leader.refusals.push_back(ErrorCode::TopicAuthorizationFailed);
        let before = leader.asked;
        let refused = list(&mut leader, usize::MAX).expect_err("it is refused");
        assert_eq!(refused.error, ClientError::Broker(ErrorCode::TopicAuthorizationFailed));
        assert_eq!(leader.asked, before + 1);
        leader.refusals.extend([ErrorCode::NotLeaderOrFollower; 9]);
        list(&mut leader, usize::MAX).expect_err("it is given up");
    }

    #[test]
    fn an_entry_on_its_way_out_is_tried_again_and_what_may_be_done_is_not() {
        let place: Place = (T, PartitionIndex(1));
        let mut leader = two_partitions();
        let mut cancel = |refusals: &[ErrorCode]| {
            (leader.asked, leader.refusals) = (0, refusals.iter().copied().collect());
            let place = place.clone();
            let name = EntryName::Ticket(Offset(5));
            let done = run(&mut leader, async move |it| {
                it.alter_entry(&place, &name, Alteration::Cancel).await
            });
            (done.map_err(|refusal| refusal.error), leader.asked)
        };
        assert_eq!(cancel(&[ErrorCode::NotEnoughReplicas]), (Ok(()), 2));
        let error = |code| Err(ClientError::Broker(code));
        let late = [ErrorCode::NotEnoughReplicas, ErrorCode::InvalidRecord];
        assert_eq!(cancel(&late), (error(ErrorCode::InvalidRecord), 2));
        let unknown = ErrorCode::RequestTimedOut;
        assert_eq!(cancel(&[unknown]), (error(unknown), 1));
    }

    #[test]
    fn a_partition_that_is_not_there_is_named() {
        let place: Place = (T, PartitionIndex(7));
        let mut leader = two_partitions();
        let asked = place.clone();
        let refused =
            run(&mut leader, async move |it| it.entry(&asked, &EntryName::Ticket(Offset(0))).await);
        let refused = refused.expect_err("there is none");
        assert_eq!(refused.about, About::Partition(place));
        assert!(refused.error.is_unknown_topic());
    }
}
