use proptest::prelude::*;

use super::*;
use crate::error::ErrorCode;
use crate::record::builder::{BatchBuilder, NewHeader};

const NOW: i64 = 1_770_000_000_000;
const MAX: usize = 1 << 20;
const ALL: Features =
    Features { schedule: true, half: true, dedup: true, dedup_by_key: false, default_delay_ms: 0 };

fn batch(codec: Codec, records: &[&[(&str, &str)]]) -> Batch {
    let mut builder = BatchBuilder::new(codec);
    for headers in records {
        let headers: Vec<NewHeader<'_>> =
            headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))).collect();
        builder.push(NOW, Some(b"k"), Some(b"v"), &headers);
    }
    builder.build()
}

fn wishes_of(features: &Features, records: &[&[(&str, &str)]]) -> Option<Vec<RecordWish>> {
    let read = |codec| {
        let wishes = features.wishes(&batch(codec, records), NOW, MAX).expect("sound");
        wishes.map(|(wishes, _)| wishes)
    };
    let wishes = read(Codec::None);
    assert_eq!(read(Codec::Lz4), wishes, "compressed");
    wishes
}

fn wish(headers: &[(&str, &str)]) -> RecordWish {
    wishes_of(&ALL, &[headers]).map_or(RecordWish::NONE, |mut wishes| wishes.remove(0))
}

fn refused(headers: &[(&str, &str)]) -> String {
    let batch = batch(Codec::None, &[&[], headers]);
    let refusal = ALL.wishes(&batch, NOW, MAX).expect_err("refused");
    assert_eq!(refusal.code, ErrorCode::InvalidRecord);
    let [record] = refusal.records.as_slice() else { panic!("one is to blame: {refusal:?}") };
    assert_eq!(record.index, 1);
    record.message.clone()
}

fn waits(wish: EntryWish) -> RecordWish {
    RecordWish { action: Action::Wait(wish), dedup: None }
}

fn plain() -> EntryWish {
    EntryWish { check_after_ms: -1, ..EntryWish::default() }
}

#[test]
fn a_batch_without_headers_of_ours_is_not_opened() {
    // A batch that cannot be read tells whether it was.
    let mut unreadable = batch(Codec::None, &[&[("other", "1")]]).to_bytes().to_vec();
    let last = unreadable.len() - 1;
    unreadable[61] ^= 2;
    unreadable[last] ^= 1;
    let closed = Batch::split_from(&mut unreadable.into()).expect("framed");
    assert!(ALL.wishes(&closed, NOW, MAX).expect("closed").is_none());
    for opens in [Features { default_delay_ms: 1, ..ALL }, Features { dedup_by_key: true, ..ALL }] {
        assert!(opens.wishes(&closed, NOW, MAX).is_err());
    }
    let off = Features { default_delay_ms: 1, dedup_by_key: true, ..Features::default() };
    assert!(off.wishes(&closed, NOW, MAX).expect("closed").is_none());
}

#[test]
fn headers_of_a_feature_that_is_off_are_data() {
    let every: &[(&str, &str)] = &[
        ("mainspring-deliver-at", "x"),
        ("mainspring-cron", "x"),
        ("mainspring-half", ""),
        ("mainspring-op", "x"),
        ("mainspring-dedup-id", ""),
    ];
    assert_eq!(wishes_of(&Features::default(), &[every]), None);
    let dedup = Features { dedup: true, ..Features::default() };
    assert_eq!(wishes_of(&dedup, &[&every[..4]]), None);
    let half = Features { half: true, ..Features::default() };
    assert_eq!(wishes_of(&half, &[&[every[1], every[4]]]), None);
    assert_eq!(wishes_of(&half, &[&[every[0]]]), None, "only half messages wait");
    let schedule = Features { schedule: true, ..Features::default() };
    assert_eq!(wishes_of(&schedule, &[&[every[2], every[4]]]), None);
}

#[test]
fn a_record_waits_for_a_time_or_for_a_while() {
    let at = EntryWish { when: Some(When::At(1_800_000_000_000)), ..plain() };
    assert_eq!(wish(&[("mainspring-deliver-at", "1800000000000")]), waits(at));
    let after = EntryWish { when: Some(When::After(0)), ..plain() };
    assert_eq!(wish(&[("mainspring-delay-ms", "0")]), waits(after));
    let named = EntryWish {
        when: Some(When::After(5)),
        id: Some(Bytes::from_static(b"order-1")),
        ..plain()
    };
    assert_eq!(wish(&[("mainspring-id", "order-1"), ("mainspring-delay-ms", "5")]), waits(named));
    assert_eq!(wish(&[("mainspring-id", "order-1")]), RecordWish::NONE, "a name alone");
}

#[test]
fn the_last_header_of_a_name_counts() {
    let headers = [("mainspring-delay-ms", "x"), ("mainspring-delay-ms", "7")];
    let after = EntryWish { when: Some(When::After(7)), ..plain() };
    assert_eq!(wish(&headers), waits(after));
    refused(&[headers[1], headers[0]]);
}

#[test]
fn numbers_are_digits_within_bounds() {
    for value in
        ["", "-1", "+1", " 1", "1 ", "1e3", "1.0", "0x1", "253402300800000", "99999999999999999999"]
    {
        refused(&[("mainspring-deliver-at", value)]);
        refused(&[("mainspring-delay-ms", value)]);
    }
    refused(&[("mainspring-delay-ms", "253402300799999")]);
    wish(&[("mainspring-deliver-at", "253402300799999")]);
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(NOW, None, None, &[(headers::DELAY_MS, None)]);
    let refusal = ALL.wishes(&builder.build(), NOW, MAX).expect_err("no value");
    assert_eq!(refusal.records[0].message, "mainspring-delay-ms has no value");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let (at, delay) = (("mainspring-deliver-at", "5"), ("mainspring-delay-ms", "5"));
    let cron = ("mainspring-cron", "@hourly");
    refused(&[at, delay]);
    refused(&[at, cron]);
    refused(&[delay, cron]);
    refused(&[("mainspring-cron-timezone", "UTC")]);
    refused(&[("mainspring-half", "g"), ("mainspring-id", "1"), cron]);
    refused(&[delay, ("mainspring-id", "")]);
    refused(&[delay, ("mainspring-id", &"i".repeat(257))]);
    wish(&[delay, ("mainspring-id", &"i".repeat(256))]);
}

#[test]
fn a_recurring_record_has_a_sound_expression_and_a_zone() {
    let cron = EntryWish { cron: Some(("@every 1000".into(), "UTC".into())), ..plain() };
    assert_eq!(wish(&[("mainspring-cron", "@every 1000")]), waits(cron));
    let zoned = EntryWish { cron: Some(("0 0 9 * * *".into(), "Europe/Berlin".into())), ..plain() };
    let (nine, berlin) =
        (("mainspring-cron", "0 0 9 * * *"), ("mainspring-cron-timezone", "Europe/Berlin"));
    assert_eq!(wish(&[nine, berlin]), waits(zoned));
    refused(&[nine, ("mainspring-cron-timezone", "Europe/Atlantis")]);
    refused(&[("mainspring-cron", "@every 999")]);
    refused(&[("mainspring-cron", "0 0 0 30 2 *")]);
}

#[test]
fn a_half_message_has_a_name_and_a_check_group_that_makes_a_topic() {
    let (half, id) = (("mainspring-half", "orders.eu-1_x"), ("mainspring-id", "o-1"));
    let expected = EntryWish {
        half: Some("orders.eu-1_x".into()),
        id: Some(Bytes::from_static(b"o-1")),
        ..plain()
    };
    assert_eq!(wish(&[half, id]), waits(expected.clone()));
    let later = EntryWish { when: Some(When::At(9)), check_after_ms: 250, ..expected };
    let at = ("mainspring-deliver-at", "9");
    assert_eq!(wish(&[half, id, at, ("mainspring-check-after-ms", "250")]), waits(later));
    refused(&[half]);
    refused(&[half, id, ("mainspring-check-after-ms", "-1")]);
    for group in ["", "a b", "ä", "a/b", &"g".repeat(243)] {
        refused(&[("mainspring-half", group), id]);
    }
    wish(&[("mainspring-half", &"g".repeat(242)), id]);
}

#[test]
fn a_command_names_one_entry() {
    let (id, ticket) = (("mainspring-id", "o-1"), ("mainspring-ticket", "77"));
    let by_id = CommandTarget::Id(Bytes::from_static(b"o-1"));
    for (op, command) in [
        ("cancel", Command::Cancel),
        ("cancel-if-pending", Command::CancelIfPending),
        ("deliver-now", Command::DeliverNow),
        ("commit", Command::Commit),
        ("rollback", Command::Rollback),
    ] {
        let op = ("mainspring-op", op);
        let expected =
            |target| RecordWish { action: Action::Command(target, command), dedup: None };
        assert_eq!(wish(&[op, id]), expected(by_id.clone()));
        assert_eq!(wish(&[op, ticket]), expected(CommandTarget::Ticket(Offset(77))));
        refused(&[op]);
        refused(&[op, id, ticket]);
        refused(&[op, ("mainspring-ticket", "-1")]);
        // The headers of the record that it is about may come along.
        let half = [op, id, ("mainspring-half", "g"), ("mainspring-dedup-id", "d")];
        assert_eq!(wish(&half), expected(by_id.clone()));
    }
    let reschedule = ("mainspring-op", "reschedule");
    let action = Action::Command(by_id, Command::Reschedule(When::After(4)));
    let later = ("mainspring-delay-ms", "4");
    assert_eq!(wish(&[reschedule, id, later]), RecordWish { action, dedup: None });
    refused(&[reschedule, id]);
    refused(&[reschedule, id, later, ("mainspring-deliver-at", "4")]);
}

#[test]
fn an_unknown_command_is_refused_and_so_is_one_of_a_feature_that_is_off() {
    for op in ["", "ack", "Cancel", "cancel ", "delete"] {
        refused(&[("mainspring-op", op), ("mainspring-id", "1")]);
    }
    for (features, op) in [
        (Features { half: true, ..Features::default() }, "cancel"),
        (Features { schedule: true, ..Features::default() }, "commit"),
    ] {
        let headers = &[("mainspring-op", op), ("mainspring-id", "1")];
        assert!(features.wishes(&batch(Codec::None, &[headers]), NOW, MAX).is_err());
    }
}

#[test]
fn a_default_delay_is_that_of_records_that_ask_for_no_time_of_their_own() {
    let features = Features { default_delay_ms: 50, ..ALL };
    let records: &[&[(&str, &str)]] = &[
        &[],
        &[("mainspring-delay-ms", "0")],
        &[("mainspring-half", "g"), ("mainspring-id", "1")],
        &[("mainspring-op", "cancel"), ("mainspring-id", "1")],
    ];
    let wishes = wishes_of(&features, records).expect("some");
    let when = |wish: &RecordWish| match &wish.action {
        Action::Wait(wish) => wish.when,
        Action::Store | Action::Command(..) => None,
    };
    let expected = [Some(When::After(50)), Some(When::After(0)), None, None];
    assert_eq!(wishes.iter().map(when).collect::<Vec<_>>(), expected);
}

#[test]
fn a_record_is_identified_by_its_header_or_by_its_key() {
    let by_header = |id| wish(&[("mainspring-dedup-id", id)]).dedup;
    assert_eq!(by_header("k"), by_header("k"));
    assert_ne!(by_header("k"), by_header("l"));
    let by_key = Features { dedup_by_key: true, ..ALL };
    let wishes = wishes_of(&by_key, &[&[("mainspring-dedup-id", "")]]).expect("some");
    assert!(wishes[0].dedup.is_some());
    assert_ne!(wishes[0].dedup, by_header("k"), "a key is no header");
    refused(&[("mainspring-dedup-id", "")]);
    refused(&[("mainspring-dedup-id", &"d".repeat(257))]);
    let mut keyless = BatchBuilder::new(Codec::None);
    keyless.push(NOW, None, Some(b"v"), &[]);
    assert!(by_key.wishes(&keyless.build(), NOW, MAX).expect("sound").is_none());
}

#[test]
fn the_hash_is_the_same_in_every_build() {
    // It stands in logs that other builds read.
    assert_eq!(hash(b'i', b"order-1"), 0xe1a9_94c3_c7d2_bd30_2d44_fc60_44bd_0332);
}

#[test]
fn no_more_records_are_blamed_than_the_bound() {
    let bad: &[(&str, &str)] = &[("mainspring-delay-ms", "x")];
    let refusal = ALL.wishes(&batch(Codec::Zstd, &[bad; 300]), NOW, MAX).expect_err("refused");
    assert_eq!(refusal.records.len(), RECORD_ERRORS_MAX);
    let message = &refusal.records[0].message;
    assert_eq!(message, "mainspring-delay-ms is a number from 0 to 253402300799999, not x");
}

#[test]
fn a_batch_that_asks_is_bounded_in_its_records_and_its_bytes() {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    for _ in 1..RECORDS_MAX {
        builder.push(NOW, None, None, &[]);
    }
    let mut asks = builder.clone();
    asks.push(NOW, None, None, &[(headers::DELAY_MS, Some(b"1"))]);
    let wishes = ALL.wishes(&asks.clone().build(), NOW, 1 << 24).expect("as many as may be");
    assert_eq!(wishes.expect("it asks").0.len(), RECORDS_MAX);
    asks.push(NOW, None, None, &[]);
    builder.push(NOW, None, None, &[]);
    builder.push(NOW, None, None, &[]);
    assert!(ALL.wishes(&builder.build(), NOW, 1 << 24).expect("sound").is_none());
    let asks = asks.build();
    let refusal = ALL.wishes(&asks, NOW, 1 << 24).expect_err("one record too many");
    assert_eq!(refusal.code, ErrorCode::MessageTooLarge);
    let refusal = ALL.wishes(&asks, NOW, 1 << 10).expect_err("too large");
    assert_eq!(refusal.code, ErrorCode::MessageTooLarge);
}

proptest! {
    #[test]
    fn headers_of_any_kind_never_panic_and_judge_each_record(
        records in prop::collection::vec(
            prop::collection::vec(
                (
                    prop::sample::select(vec![
                        headers::DELIVER_AT, headers::DELAY_MS, headers::CRON,
                        headers::CRON_TIMEZONE, headers::ID, headers::HALF,
                        headers::CHECK_AFTER_MS, headers::OP, headers::TICKET, headers::DEDUP_ID,
                    ]),
                    prop::option::of(prop_oneof![
                        prop::collection::vec(any::<u8>(), 0..12),
                        "[0-9]{1,15}|cancel|commit|@hourly|UTC".prop_map(String::into_bytes),
                    ]),
                ),
                0..4,
            ),
            1..6,
        ),
        schedule: bool, half: bool, dedup: bool, dedup_by_key: bool,
        default_delay_ms in 0_i64..3,
    ) {
        let features = Features { schedule, half, dedup, dedup_by_key, default_delay_ms };
        let mut builder = BatchBuilder::new(Codec::None);
        for record in &records {
            let headers: Vec<NewHeader<'_>> =
                record.iter().map(|(name, value)| (*name, value.as_deref())).collect();
            builder.push(NOW, None, None, &headers);
        }
        match features.wishes(&builder.build(), NOW, MAX) {
            Ok(Some((wishes, _))) => prop_assert_eq!(wishes.len(), records.len()),
            Ok(None) => {}
            Err(refusal) => {
                prop_assert_eq!(refusal.code, ErrorCode::InvalidRecord);
                prop_assert!((1..=records.len()).contains(&refusal.records.len()));
            }
        }
    }
}
