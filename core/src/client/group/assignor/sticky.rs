//! `cooperative-sticky`: as even as the subscriptions allow, with as few moves as that needs.
//!
//! It starts from what the members hold, gives what nobody holds to whoever has least, and then
//! moves single partitions as long as a move makes two members more even. What would change hands
//! is held back in this round: its holder is told first, gives it up and joins again (KIP-429).
//!
//! Where two members say that they hold a partition, the later generation is believed. Where these
//! are equal neither is, and neither gets it in this round.

use std::collections::{BTreeMap, BTreeSet};

use super::{Assignment, Member};
use crate::client::producer::accumulator::Place;
use crate::ids::PartitionIndex;
use crate::wire::KafkaString;

/// Index of a member among the sorted ones.
type Reader = usize;

/// Topics that the same members want, and these members by how many partitions they have.
struct Class {
    by_load: BTreeSet<(usize, Reader)>,
}

/// The members' loads, in every class that they belong to.
struct Loads {
    load: Vec<usize>,
    classes: Vec<Class>,
    /// The classes of each member.
    classes_of: Vec<Vec<usize>>,
}

impl Loads {
    fn change(&mut self, reader: Reader, change: impl FnOnce(usize) -> usize) {
        let before = self.load[reader];
        let after = change(before);
        self.load[reader] = after;
        for class in &self.classes_of[reader] {
            let by_load = &mut self.classes[*class].by_load;
            by_load.remove(&(before, reader));
            by_load.insert((after, reader));
        }
    }

    fn least(&self, class: usize) -> Reader {
        self.classes[class].by_load.first().expect("a class has members").1
    }
}

/// Gives everything out, then holds back what another member holds.
pub(super) fn assign(members: &[&Member], counts: &BTreeMap<KafkaString, i32>) -> Assignment {
    let (mut loads, class_of) = classes(members, counts);
    let claims = claims(members, &class_of, counts);
    let mut owner: BTreeMap<Place, Reader> = BTreeMap::new();
    for (place, claim) in &claims {
        if let Some(holder) = claim.holder {
            owner.insert(place.clone(), holder);
            loads.change(holder, |load| load + 1);
        }
    }
    for (topic, class) in &class_of {
        for index in 0..counts[*topic] {
            owner.entry(((*topic).clone(), PartitionIndex(index))).or_insert_with(|| {
                let reader = loads.least(*class);
                loads.change(reader, |load| load + 1);
                reader
            });
        }
    }
    even_out(&mut loads, &class_of, &claims, &mut owner);

    let mut assignment: Assignment =
        members.iter().map(|member| (member.member_id.clone(), BTreeSet::new())).collect();
    for (place, reader) in owner {
        let is_free = claims.get(&place).is_none_or(|claim| claim.holder == Some(reader));
        if is_free {
            let given = assignment.get_mut(&members[reader].member_id);
            given.expect("every member is there").insert(place);
        }
    }
    assignment
}

/// Moves single partitions while that makes two members more even. Every move makes the sum of the
/// squared loads smaller, so it ends.
fn even_out(
    loads: &mut Loads,
    class_of: &BTreeMap<&KafkaString, usize>,
    claims: &BTreeMap<Place, Claim>,
    owner: &mut BTreeMap<Place, Reader>,
) {
    // What nobody held may move without a round of its own, so it goes first; what a member was
    // given first stays longest.
    let (held, free): (Vec<Place>, Vec<Place>) =
        owner.keys().rev().cloned().partition(|place| claims.contains_key(place));
    loop {
        let mut moved = false;
        for place in free.iter().chain(&held) {
            let from = owner[place];
            let class = class_of[&place.0];
            let to = loads.least(class);
            if loads.load[from] > loads.load[to] + 1 {
                loads.change(from, |load| load - 1);
                loads.change(to, |load| load + 1);
                owner.insert(place.clone(), to);
                moved = true;
            }
        }
        if !moved {
            return;
        }
    }
}

/// Finds the topics that exist and are wanted, in classes with the same members.
fn classes<'a>(
    members: &[&'a Member],
    counts: &BTreeMap<KafkaString, i32>,
) -> (Loads, BTreeMap<&'a KafkaString, usize>) {
    let mut wanted_by: BTreeMap<&KafkaString, Vec<Reader>> = BTreeMap::new();
    for (reader, member) in members.iter().enumerate() {
        for topic in &member.topics {
            if counts.get(topic).is_some_and(|count| *count > 0) {
                wanted_by.entry(topic).or_default().push(reader);
            }
        }
    }
    let mut numbers: BTreeMap<Vec<Reader>, usize> = BTreeMap::new();
    let mut class_of = BTreeMap::new();
    for (topic, readers) in wanted_by {
        let next = numbers.len();
        class_of.insert(topic, *numbers.entry(readers).or_insert(next));
    }
    let mut classes_of = vec![Vec::new(); members.len()];
    let mut classes: Vec<Class> =
        numbers.iter().map(|_| Class { by_load: BTreeSet::new() }).collect();
    for (readers, class) in numbers {
        for reader in &readers {
            classes_of[*reader].push(class);
        }
        classes[class].by_load = readers.into_iter().map(|reader| (0, reader)).collect();
    }
    (Loads { load: vec![0; members.len()], classes, classes_of }, class_of)
}

/// What members say about a partition.
struct Claim {
    /// The latest generation in which anyone says to hold it.
    generation_id: i32,
    /// Who is believed; `None` where two are equally credible, or the believed one does not want
    /// the topic any more.
    holder: Option<Reader>,
}

/// Finds who holds what. Partitions that do not exist, or that no one wants, are left out.
fn claims(
    members: &[&Member],
    class_of: &BTreeMap<&KafkaString, usize>,
    counts: &BTreeMap<KafkaString, i32>,
) -> BTreeMap<Place, Claim> {
    let mut claims: BTreeMap<Place, Claim> = BTreeMap::new();
    for (reader, member) in members.iter().enumerate() {
        for place in &member.owned {
            let exists = class_of.contains_key(&place.0)
                && counts.get(&place.0).is_some_and(|count| (0..*count).contains(&place.1.0));
            if !exists {
                continue;
            }
            let fresh = Claim {
                generation_id: member.generation_id,
                holder: member.topics.contains(&place.0).then_some(reader),
            };
            match claims.get_mut(place) {
                Some(claim) if claim.generation_id > member.generation_id => {}
                Some(claim) if claim.generation_id == member.generation_id => claim.holder = None,
                Some(claim) => *claim = fresh,
                None => {
                    claims.insert(place.clone(), fresh);
                }
            }
        }
    }
    claims
}
