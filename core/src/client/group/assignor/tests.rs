//! The assignors against Kafka's own results, and against what they promise for any group.

use proptest::prelude::*;

use super::*;
use crate::wire::tests::golden::lines;

fn place(topic: &str, partition: i32) -> Place {
    (topic.into(), PartitionIndex(partition))
}

fn member(id: &str, topics: &[&str]) -> Member {
    Member {
        member_id: id.into(),
        instance_id: None,
        topics: topics.iter().map(|topic| KafkaString::from(*topic)).collect(),
        owned: BTreeSet::new(),
        generation_id: -1,
    }
}

fn counts(counts: &[(&str, i32)]) -> BTreeMap<KafkaString, i32> {
    counts.iter().map(|(topic, count)| (KafkaString::from(*topic), *count)).collect()
}

/// Members as they come back after they were told an assignment of `generation_id`.
fn rejoined(members: &[Member], assignment: &Assignment, generation_id: i32) -> Vec<Member> {
    members
        .iter()
        .map(|member| Member {
            owned: assignment[&member.member_id].clone(),
            generation_id,
            ..member.clone()
        })
        .collect()
}

/// Assigns until nothing changes hands any more, as the members of a cooperative group do.
fn settle(members: &[Member], counts: &BTreeMap<KafkaString, i32>) -> (Assignment, i32) {
    let assignor = Assignor::CooperativeSticky;
    let mut members = members.to_vec();
    for round in 1.. {
        let assignment = assignor.assign(&members, counts);
        let next = rejoined(&members, &assignment, round);
        // Only what was revoked asks for another round.
        let revoked = members
            .iter()
            .zip(&next)
            .any(|(before, after)| before.owned.iter().any(|place| !after.owned.contains(place)));
        if !revoked {
            return (assignment, round);
        }
        members = next;
        assert!(round < 5, "the group comes to rest");
    }
    unreachable!("the rounds are bounded above")
}

#[test]
fn range_gives_what_kafkas_assignor_gives() {
    let lines = lines("range_assignor.jsonl.gz");
    for line in &lines {
        let text = |json: &crate::wire::json::Json| KafkaString::from(json.as_str().expect("text"));
        let members: Vec<Member> = line["members"]
            .as_array()
            .expect("members")
            .iter()
            .map(|json| Member {
                instance_id: json["instance"].as_str().map(KafkaString::from),
                topics: json["topics"].as_array().expect("topics").iter().map(text).collect(),
                ..member(json["id"].as_str().expect("an id"), &[])
            })
            .collect();
        let counts: BTreeMap<KafkaString, i32> = line["counts"]
            .as_object()
            .expect("counts")
            .iter()
            .map(|(topic, count)| (topic.as_str().into(), count.as_i64().expect("a count") as i32))
            .collect();

        let assignment = Assignor::Range.assign(&members, &counts);

        let expected: Assignment = line["assignment"]
            .as_object()
            .expect("an assignment")
            .iter()
            .map(|(id, places)| {
                let places = places.as_array().expect("places").iter().map(|pair| {
                    (text(&pair[0]), PartitionIndex(pair[1].as_i64().expect("a number") as i32))
                });
                (id.as_str().into(), places.collect())
            })
            .collect();
        assert_eq!(assignment, expected, "{line}");
    }
    assert_eq!(lines.len(), 150);
}

#[test]
fn a_partition_moves_only_after_its_holder_has_given_it_up() {
    let counts = counts(&[("orders", 4)]);
    let alone = vec![member("a", &["orders"])];
    let (all, _) = settle(&alone, &counts);
    let mut members = rejoined(&alone, &all, 1);
    members.push(member("b", &["orders"]));

    let first = Assignor::CooperativeSticky.assign(&members, &counts);
    assert_eq!(first["a"], BTreeSet::from([place("orders", 0), place("orders", 1)]));
    assert_eq!(first["b"], BTreeSet::new(), "a still reads them");

    let second = Assignor::CooperativeSticky.assign(&rejoined(&members, &first, 2), &counts);
    assert_eq!(second["a"], first["a"]);
    assert_eq!(second["b"], BTreeSet::from([place("orders", 2), place("orders", 3)]));
}

#[test]
fn of_two_who_say_they_hold_a_partition_the_later_generation_is_believed() {
    let counts = counts(&[("orders", 1)]);
    let claims = |generation_id| Member {
        owned: BTreeSet::from([place("orders", 0)]),
        generation_id,
        ..member("x", &["orders"])
    };
    let holder = |first, second| {
        let members = [
            Member { member_id: "a".into(), ..claims(first) },
            Member { member_id: "b".into(), ..claims(second) },
        ];
        let assignment = Assignor::CooperativeSticky.assign(&members, &counts);
        assignment.into_iter().find(|(_, places)| !places.is_empty()).map(|(id, _)| id)
    };
    assert_eq!(holder(4, 3).as_deref(), Some("a"));
    assert_eq!(holder(3, 4).as_deref(), Some("b"));
    assert_eq!(holder(4, 4), None, "neither keeps it before both have given it up");
}

#[test]
fn a_subscription_carries_what_the_leader_needs_whatever_its_version() {
    let topics = BTreeSet::from(["orders".into()]);
    let owned = BTreeSet::from([place("orders", 2)]);
    let blob = Assignor::CooperativeSticky.subscription(&topics, &owned, 7, None);
    let id = KafkaString::from_static("m");
    let read = Member::from_blob(&id, None, blob.clone());
    assert_eq!((&read.topics, &read.owned, read.generation_id), (&topics, &owned, 7));

    // One of before KIP-792 tells its generation in its user data.
    let subscription = ConsumerProtocolSubscription::from_blob(blob).expect("our own");
    let old = Member::from_blob(&id, None, subscription.to_blob(1));
    assert_eq!((&old.owned, old.generation_id), (&owned, 7));
    let oldest = Member::from_blob(&id, None, subscription.to_blob(0));
    assert!(oldest.owned.is_empty());
}

#[test]
fn a_member_whose_blob_is_damaged_stops_no_one() {
    let broken = Bytes::from_static(&[0, 3, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3]);
    let members = [Member::from_blob(&"bad".into(), None, broken), member("good", &["orders"])];
    for assignor in Assignor::ALL {
        let assignment = assignor.assign(&members, &counts(&[("orders", 3)]));
        assert_eq!((assignment["bad"].len(), assignment["good"].len()), (0, 3));
    }
}

#[test]
fn an_assignment_is_read_back_and_an_empty_blob_gives_nothing() {
    let places = BTreeSet::from([place("orders", 0), place("orders", 3), place("a", 1)]);
    assert_eq!(read_assignment(assignment_blob(&places)), Ok(places));
    assert_eq!(read_assignment(Bytes::new()), Ok(BTreeSet::new()));
    assert!(read_assignment(Bytes::from_static(&[0, 0, 0, 0, 0, 9])).is_err());
}

#[test]
fn a_large_group_is_assigned_in_one_go() {
    let members: Vec<Member> =
        (0..500).map(|index| member(&format!("m{index:03}"), &["big"])).collect();
    let counts = counts(&[("big", 20_000)]);
    let (all, _) = settle(&members, &counts);
    let fewer = rejoined(&members[..400], &all, 1);
    let after = Assignor::CooperativeSticky.assign(&fewer, &counts);
    assert!(after.values().all(|places| places.len() == 50));
    assert!(fewer.iter().all(|member| member.owned.is_subset(&after[&member.member_id])));
}

const TOPICS: [&str; 4] = ["a", "b", "c", "d"];

prop_compose! {
    fn any_member(index: usize)(
        wants in proptest::bits::u8::between(0, 4),
        is_static in any::<bool>(),
        owned in proptest::collection::btree_set((0..4_usize, -1..9_i32), 0..12),
        generation_id in -1..3_i32,
    ) -> Member {
        Member {
            instance_id: is_static.then(|| format!("i{index}").into()),
            topics: (0..4).filter(|bit| wants >> bit & 1 == 1).map(|bit| TOPICS[bit].into()).collect(),
            owned: owned.into_iter().map(|(topic, index)| place(TOPICS[topic], index)).collect(),
            generation_id,
            ..member(&format!("m{index}"), &[])
        }
    }
}

fn any_group() -> impl Strategy<Value = (Vec<Member>, BTreeMap<KafkaString, i32>)> {
    let members =
        (1..7_usize).prop_flat_map(|count| (0..count).map(any_member).collect::<Vec<_>>());
    let counts = proptest::collection::vec(0..8_i32, 4);
    (members, counts).prop_map(|(members, sizes)| {
        let counts =
            TOPICS.iter().zip(sizes).map(|(topic, size)| (KafkaString::from(*topic), size));
        (members, counts.filter(|(_, size)| *size > 0).collect())
    })
}

/// All partitions that someone wants.
fn wanted(members: &[Member], counts: &BTreeMap<KafkaString, i32>) -> BTreeSet<Place> {
    counts
        .iter()
        .filter(|(topic, _)| members.iter().any(|member| member.topics.contains(*topic)))
        .flat_map(|(topic, count)| (0..*count).map(|index| place(topic, index)))
        .collect()
}

/// Checks that nothing is given twice, or to one who does not want it, and returns all that is.
fn given(members: &[Member], assignment: &Assignment) -> BTreeSet<Place> {
    let mut seen = BTreeSet::new();
    assert_eq!(assignment.len(), members.len(), "every member is told something");
    for member in members {
        for place in &assignment[&member.member_id] {
            assert!(member.topics.contains(&place.0), "{place:?} for {}", member.member_id);
            assert!(seen.insert(place.clone()), "{place:?} is given twice");
        }
    }
    seen
}

/// Checks that no single move would make two members more even.
fn assert_even(members: &[Member], assignment: &Assignment) {
    for from in members {
        for place in &assignment[&from.member_id] {
            for to in members.iter().filter(|member| member.topics.contains(&place.0)) {
                let (more, less) =
                    (assignment[&from.member_id].len(), assignment[&to.member_id].len());
                assert!(more <= less + 1, "{place:?} of {} fits {}", from.member_id, to.member_id);
            }
        }
    }
}

proptest! {
    #[test]
    fn range_gives_everything_out_once((members, counts) in any_group()) {
        let assignment = Assignor::Range.assign(&members, &counts);
        assert_eq!(given(&members, &assignment), wanted(&members, &counts));
    }

    #[test]
    fn sticky_never_gives_what_another_holds_and_rests_even((members, counts) in any_group()) {
        let assignment = Assignor::CooperativeSticky.assign(&members, &counts);
        for place in given(&members, &assignment) {
            let holds = |member: &&Member| member.owned.contains(&place);
            let gets = |member: &&Member| assignment[&member.member_id].contains(&place);
            let last = members.iter().filter(holds).map(|member| member.generation_id).max();
            if let Some(last) = last {
                let getter = members.iter().find(gets).expect("it is given");
                assert!(holds(&getter) && getter.generation_id == last, "{place:?}");
            }
        }

        let (settled, _) = settle(&members, &counts);
        assert_eq!(given(&members, &settled), wanted(&members, &counts));
        assert_even(&members, &settled);
    }

    #[test]
    fn a_settled_group_stays_as_it_is_whatever_the_order_of_its_members(
        (members, counts) in any_group()
    ) {
        let (settled, round) = settle(&members, &counts);
        let mut again = rejoined(&members, &settled, round);
        assert_eq!(&Assignor::CooperativeSticky.assign(&again, &counts), &settled);
        again.reverse();
        assert_eq!(&Assignor::CooperativeSticky.assign(&again, &counts), &settled);
    }

    #[test]
    fn where_all_want_the_same_a_leaver_moves_only_what_it_had(
        count in 2..8_usize, partitions in 1..40_i32, leaver in 0..8_usize
    ) {
        let all: Vec<Member> =
            (0..count).map(|index| member(&format!("m{index}"), &["a"])).collect();
        let counts = counts(&[("a", partitions)]);
        let (settled, round) = settle(&all, &counts);
        let mut rest = rejoined(&all, &settled, round);
        rest.remove(leaver % count);
        let after = Assignor::CooperativeSticky.assign(&rest, &counts);
        for member in &rest {
            assert!(member.owned.is_subset(&after[&member.member_id]), "{}", member.member_id);
        }
        assert_even(&rest, &after);
    }

    #[test]
    fn where_all_want_the_same_a_newcomer_takes_no_more_than_its_share(
        count in 1..8_usize, partitions in 1..40_usize
    ) {
        let all: Vec<Member> =
            (0..count).map(|index| member(&format!("m{index}"), &["a"])).collect();
        let counts = counts(&[("a", partitions as i32)]);
        let (settled, round) = settle(&all, &counts);
        let mut more = rejoined(&all, &settled, round);
        more.push(member("z", &["a"]));
        let (after, _) = settle(&more, &counts);
        let kept: usize = all
            .iter()
            .map(|member| {
                let (before, after) = (&settled[&member.member_id], &after[&member.member_id]);
                before.intersection(after).count()
            })
            .sum();
        assert_eq!(partitions - kept, after["z"].len(), "nothing else moves");
        assert_eq!(after["z"].len(), partitions / (count + 1));
    }
}
