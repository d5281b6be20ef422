//! Which partition of `__consumer_offsets` keeps a group.

/// Returns the partition, of `partitions`, that keeps the group: the absolute value of Java's hash of
/// the id, modulo the count, where the smallest number has the absolute value 0.
///
/// # Panics
/// If `partitions` is not above zero.
pub fn partition_of(group_id: &str, partitions: i32) -> i32 {
    assert!(partitions > 0, "a topic has partitions");
    java_hash(group_id).checked_abs().unwrap_or(0) % partitions
}

/// Java's `String.hashCode`, over UTF-16 units.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_and_partitions_are_those_of_kafka() {
        // Printed by `String.hashCode` of JDK 17 and `Utils.abs` of Kafka 4.3.1, modulo 16.
        for (group, hash, partition) in [
            ("", 0, 0),
            ("a", 97, 1),
            ("my-group", -1_906_497_762, 2),
            ("polygenelubricants", i32::MIN, 0),
            ("group-with-negative-hash", -1_144_237_843, 3),
            ("gr\u{fc}ppe", -1_233_264_812, 12),
            ("\u{1f680} rocket", -1_391_342_671, 15),
            ("console-consumer-42", 1_109_249_087, 15),
        ] {
            assert_eq!(java_hash(group), hash, "{group:?}");
            assert_eq!(partition_of(group, 16), partition, "{group:?}");
        }
    }
}
