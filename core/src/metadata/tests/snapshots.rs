//! A snapshot holds the image, whatever has led to it, and nothing else is taken for one.

use bytes::Bytes;
use proptest::prelude::*;

use crate::digest::Digest;
use crate::ids::{LeaderEpoch, Offset, SnapshotId, Uuid};
use crate::metadata::{MetadataImage, Snapshot, SnapshotReader};
use crate::record::batch::Batch;
use crate::wire::MetadataRecord;
use crate::wire::control_record::{QuorumVoter, VotersRecord};
use crate::wire::metadata_record::{
    BrokerEndpoint, BrokerFeature, BrokerRegistrationChangeRecord, ConfigRecord,
    FeatureLevelRecord, NoOpRecord, PartitionChangeRecord, PartitionRecord, ProducerIdsRecord,
    RegisterBrokerRecord, RemoveTopicRecord, TopicRecord, UncleanElectionRecord,
    UnregisterBrokerRecord,
};

/// One step of a history: a record, or the beginning of an epoch.
#[derive(Clone, Debug)]
enum Step {
    Record(Box<MetadataRecord>),
    Epoch,
}

fn nodes() -> impl Strategy<Value = Vec<i32>> {
    prop::collection::vec(1..5_i32, 0..4)
}

fn topic_id() -> impl Strategy<Value = Uuid> {
    (0..6_u8).prop_map(|id| Uuid([id; 16]))
}

fn partition() -> impl Strategy<Value = MetadataRecord> {
    let numbers = (0..3_i32, -1..5_i32, 0..9_i32, 0..9_i32);
    (numbers, topic_id(), nodes(), nodes(), nodes()).prop_map(
        |(
            (partition_id, leader, leader_epoch, partition_epoch),
            topic_id,
            replicas,
            isr,
            adding,
        )| {
            PartitionRecord {
                partition_id,
                topic_id,
                removing_replicas: isr.clone(),
                replicas,
                isr,
                adding_replicas: adding,
                leader,
                leader_epoch,
                partition_epoch,
                ..PartitionRecord::default()
            }
            .into()
        },
    )
}

fn change() -> impl Strategy<Value = MetadataRecord> {
    let lists = (prop::option::of(nodes()), prop::option::of(nodes()));
    (0..3_i32, -2..5_i32, topic_id(), lists).prop_map(
        |(partition_id, leader, topic_id, (isr, adding_replicas))| {
            PartitionChangeRecord {
                partition_id,
                topic_id,
                isr,
                leader,
                adding_replicas,
                ..PartitionChangeRecord::default()
            }
            .into()
        },
    )
}

fn registration() -> impl Strategy<Value = MetadataRecord> {
    let numbers = (1..5_i32, any::<u8>(), any::<u16>(), any::<bool>());
    (numbers, prop::option::of("[a-z]{0,3}"), prop::collection::vec("[A-Z]{1,3}", 0..3)).prop_map(
        |((broker_id, incarnation, port, fenced), rack, names)| {
            let end_points = names.iter().map(|name| BrokerEndpoint {
                name: name.as_str().into(),
                host: "host".into(),
                port,
                security_protocol: 0,
            });
            let features = names.iter().map(|name| BrokerFeature {
                name: name.as_str().into(),
                min_supported_version: 0,
                max_supported_version: i16::from(incarnation),
            });
            RegisterBrokerRecord {
                broker_id,
                incarnation_id: Uuid([incarnation; 16]),
                end_points: end_points.collect(),
                features: features.collect(),
                rack: rack.as_deref().map(Into::into),
                fenced,
                log_dirs: vec![Uuid([incarnation; 16])],
                ..RegisterBrokerRecord::default()
            }
            .into()
        },
    )
}

fn record() -> impl Strategy<Value = MetadataRecord> {
    let name = || prop::sample::select(vec!["a", "b", "c.d", "e"]);
    prop_oneof![
        3 => (name(), topic_id())
            .prop_map(|(name, topic_id)| TopicRecord { name: name.into(), topic_id }.into()),
        6 => partition(),
        6 => change(),
        3 => registration(),
        1 => topic_id().prop_map(|topic_id| RemoveTopicRecord { topic_id }.into()),
        2 => (prop::bool::ANY, name(), name(), prop::option::of("[a-z]{0,9}")).prop_map(
            |(of_topic, topic, name, value)| ConfigRecord {
                resource_type: if of_topic { 2 } else { 4 },
                resource_name: if of_topic { topic.into() } else { "".into() },
                name: name.into(),
                value: value.as_deref().map(Into::into),
            }.into()
        ),
        1 => (name(), 0..3_i16).prop_map(|(name, feature_level)| {
            FeatureLevelRecord { name: name.into(), feature_level }.into()
        }),
        1 => (0..9_i64).prop_map(|block| ProducerIdsRecord {
            broker_id: 1, broker_epoch: 0, next_producer_id: block * 1_000,
        }.into()),
        2 => (1..5_i32, -1..2_i8, -1..2_i8).prop_map(|(broker_id, fenced, stops)| {
            BrokerRegistrationChangeRecord {
                broker_id, fenced, in_controlled_shutdown: stops, ..Default::default()
            }.into()
        }),
        1 => (1..5_i32).prop_map(|broker_id| {
            UnregisterBrokerRecord { broker_id, broker_epoch: 0 }.into()
        }),
        1 => (topic_id(), 0..3_i32, 1..5_i32, 0..9_i32).prop_map(
            |(topic_id, partition_id, leader, leader_epoch)| UncleanElectionRecord {
                topic_id, partition_id, leader, leader_epoch, lost_from: -1,
            }.into()
        ),
        1 => Just(NoOpRecord::default().into()),
    ]
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![12 => record().prop_map(|record| Step::Record(Box::new(record))), 1 => Just(Step::Epoch)];
    prop::collection::vec(step, 0..120).prop_map(|mut steps| {
        steps.insert(0, Step::Epoch);
        steps
    })
}

/// Applies a history; what contradicts it is left out.
fn apply(image: &mut MetadataImage, steps: &[Step]) {
    for step in steps {
        let offset = image.end_offset();
        match step {
            Step::Record(record) => {
                let _ = image.apply(offset, record);
            }
            Step::Epoch => {
                let epoch = LeaderEpoch(image.epoch().0.max(0) + 1);
                image.apply_leader_change(offset, epoch);
            }
        }
    }
}

fn digest(image: &MetadataImage) -> u64 {
    let mut digest = Digest::default();
    image.digest(&mut digest);
    digest.finish()
}

fn read(id: SnapshotId, bytes: &[u8], piece: usize) -> Result<Snapshot, String> {
    let mut reader = SnapshotReader::new(id);
    for piece in bytes.chunks(piece.max(1)) {
        reader.push(piece).map_err(|error| error.to_string())?;
    }
    reader.finish().map_err(|error| error.to_string())
}

fn snapshot(steps: &[Step]) -> Snapshot {
    let mut image = MetadataImage::default();
    apply(&mut image, steps);
    let voter =
        QuorumVoter { voter_id: 1, voter_directory_id: Uuid([7; 16]), ..QuorumVoter::default() };
    let voters = steps.len().is_multiple_of(2);
    let voters = voters.then(|| VotersRecord { version: 0, voters: vec![voter] });
    Snapshot { image, voters, timestamp: 1_700_000_000_000 }
}

proptest! {
    #[test]
    fn what_a_snapshot_holds_is_what_the_log_makes(
        before in history(), after in history(), piece in 1..5_000_usize,
    ) {
        let written = snapshot(&before);
        let bytes = written.encode().concat();

        let found = read(written.id(), &bytes, piece);
        let found = found.map_err(TestCaseError::fail)?;

        prop_assert_eq!(&found, &written);
        prop_assert_eq!(digest(&found.image), digest(&written.image));
        prop_assert_eq!(found.encode().concat(), bytes, "equal images give equal bytes");
        // And what follows in the log makes the same of both.
        let (mut one, mut other) = (found.image, written.image);
        apply(&mut one, &after);
        apply(&mut other, &after);
        prop_assert_eq!(digest(&one), digest(&other));
        prop_assert_eq!(one, other);
    }

    #[test]
    fn a_snapshot_with_a_flipped_bit_or_a_lost_end_is_none(
        steps in history(), at in any::<prop::sample::Index>(), bit in 0..8_u32,
    ) {
        let written = snapshot(&steps);
        let bytes = written.encode().concat();
        let at = at.index(bytes.len());

        prop_assert!(read(written.id(), &bytes[..at], 1_000).is_err(), "cut at {}", at);
        let mut flipped = bytes;
        flipped[at] ^= 1 << bit;
        prop_assert!(read(written.id(), &flipped, 1_000).is_err(), "flipped at {}", at);
    }
}

#[test]
fn many_topics_take_many_batches() {
    let mut image = MetadataImage::default();
    image.apply_leader_change(Offset(0), LeaderEpoch(3));
    for number in 0..3_000_u32 {
        let mut id = [1; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let topic = TopicRecord { name: format!("t{number}").as_str().into(), topic_id: Uuid(id) };
        image.apply(image.end_offset(), &topic.into()).expect("new");
    }
    let written = Snapshot { image, voters: None, timestamp: 5 };

    let batches = written.encode();

    assert!(batches.len() > 3, "{}", batches.len());
    let whole = batches.concat();
    assert_eq!(read(written.id(), &whole, 1 << 20), Ok(written.clone()));
    let mut first = Bytes::from(whole);
    let first = Batch::split_from(&mut first).expect("a batch");
    assert!(first.is_control());
    assert_eq!((first.base_offset(), first.leader_epoch()), (Offset(0), LeaderEpoch(3)));
}

#[test]
fn a_snapshot_in_the_place_of_another_is_refused() {
    let written = snapshot(&[Step::Epoch, Step::Record(Box::new(NoOpRecord::default().into()))]);
    let bytes = written.encode().concat();
    let SnapshotId { end_offset, epoch } = written.id();
    let other = SnapshotId { end_offset: end_offset.plus(1), epoch };
    let why = read(other, &bytes, 64).expect_err("it is another");
    assert!(why.contains(&written.id().to_string()), "{why}");
    let later = SnapshotId { end_offset, epoch: LeaderEpoch(epoch.0 + 1) };
    read(later, &bytes, 64).expect_err("of another epoch");
    let twice = [&bytes[..], &bytes[..]].concat();
    read(written.id(), &twice, 64).expect_err("something follows");
}
