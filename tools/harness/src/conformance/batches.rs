//! Record batches from a small description, and back into one.

use bytes::Bytes;
use mainspring_core::ids::{ProducerEpoch, ProducerId};
use mainspring_core::record::batch::{Batch, HEADER_LEN};
use mainspring_core::record::builder::{BatchBuilder, Producer};
use mainspring_core::record::compress::Codec;
use mainspring_core::record::iterate::OpenBatch;
use serde_json::{Value, json};

use super::script::hex;
use crate::checks::Outcome;

/// Where the CRC stands in a batch.
const CRC_AT: usize = 17;
/// First byte that the CRC covers.
const CRC_FROM: usize = 21;
/// Timestamp of records that name none, in Unix milliseconds.
const TIME_MS: i64 = 1000;

/// Builds what a description asks for: one batch, or several one behind the other.
pub(super) fn build(description: &Value) -> Outcome<Vec<u8>> {
    match description {
        Value::Array(batches) => {
            batches.iter().map(one).collect::<Outcome<Vec<_>>>().map(|b| b.concat())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            one(description)
        }
    }
}

fn one(description: &Value) -> Outcome<Vec<u8>> {
    let fields = description.as_object().ok_or("a batch is an object")?;
    let known =
        ["values", "records", "time", "codec", "producer", "transactional", "patch", "cut", "tail"];
    if let Some(other) = fields.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("a batch has no {other:?}"));
    }
    let codec = description["codec"].as_str().unwrap_or("none");
    let codec = Codec::from_name(codec).ok_or_else(|| format!("there is no codec {codec}"))?;
    let mut builder = BatchBuilder::new(codec);
    if let Some([id, epoch, sequence]) = description["producer"].as_array().map(Vec::as_slice) {
        let number = |value: &Value| value.as_i64().ok_or("producer is [ID, EPOCH, SEQUENCE]");
        builder = builder.producer(Producer {
            id: ProducerId(number(id)?),
            epoch: ProducerEpoch(number(epoch)? as i16),
            base_sequence: number(sequence)? as i32,
        });
    }
    if description["transactional"] == true {
        builder = builder.transactional();
    }
    let time = description["time"].as_i64().unwrap_or(TIME_MS);
    for value in description["values"].as_array().into_iter().flatten() {
        builder.push(time, None, value.as_str().map(str::as_bytes), &[]);
    }
    for record in description["records"].as_array().into_iter().flatten() {
        let headers: Vec<_> = record["headers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|pair| (text(&pair[0]).unwrap_or_default(), text(&pair[1])))
            .collect();
        let time = record["time"].as_i64().unwrap_or(time);
        builder.push(time, text(&record["key"]), text(&record["value"]), &headers);
    }
    if builder.is_empty() {
        return Err("a batch without a record".to_owned());
    }
    let mut bytes = builder.build().to_bytes().to_vec();
    patch(&mut bytes, &description["patch"])?;
    let cut = description["cut"].as_u64().unwrap_or(0) as usize;
    bytes.truncate(bytes.len().saturating_sub(cut));
    bytes.extend(hex(description["tail"].as_str().unwrap_or_default())?);
    Ok(bytes)
}

/// Writes bytes over the batch. Where only what the CRC covers is changed, the CRC becomes right.
fn patch(bytes: &mut [u8], patches: &Value) -> Outcome {
    let mut outside = Vec::new();
    for (at, value) in patches.as_object().into_iter().flatten() {
        let at: usize = at.parse().map_err(|_| format!("{at} is no place in a batch"))?;
        let value = hex(value.as_str().unwrap_or_default())?;
        if at < CRC_FROM {
            outside.push((at, value));
        } else {
            put(bytes, at, &value)?;
        }
    }
    let mut whole = Bytes::copy_from_slice(bytes);
    let batch = Batch::split_from(&mut whole).map_err(|error| error.to_string())?;
    put(bytes, CRC_AT, &batch.compute_crc().to_be_bytes())?;
    outside.iter().try_for_each(|(at, value)| put(bytes, *at, value))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Outcome {
    let place = bytes.get_mut(at..at + value.len()).ok_or("a patch behind the batch")?;
    place.copy_from_slice(value);
    Ok(())
}

fn text(value: &Value) -> Option<&[u8]> {
    value.as_str().map(str::as_bytes)
}

/// Describes the whole batches of an answer. A cut one at the end is left out: Kafka fills answers
/// up with the beginning of the next batch, and clients drop it.
pub(super) fn describe(bytes: &[u8]) -> Value {
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut batches = Vec::new();
    while Batch::peek_len(&rest).is_ok_and(|length| length <= rest.len()) {
        let Ok(batch) = Batch::split_from(&mut rest) else { break };
        batches.push(describe_one(&batch));
    }
    if rest.len() >= HEADER_LEN && Batch::peek_len(&rest).is_err() {
        batches.push(json!("no batch"));
    }
    Value::Array(batches)
}

fn describe_one(batch: &Batch) -> Value {
    // The broker's own time.
    let is_theirs = batch.is_log_append_time() || batch.is_control();
    let time = |ms: i64| if is_theirs { json!("time") } else { json!(ms) };
    let lossy = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
    let records = OpenBatch::open(batch, 64 << 20).map(|open| {
        let records = open.records().map(|placed| match placed {
            Err(error) => json!(error.to_string()),
            Ok(placed) => {
                let headers: Vec<_> = placed.record.headers.iter().collect();
                let headers: Vec<_> = headers
                    .iter()
                    .map(|header| json!([lossy(Some(header.key)), lossy(header.value)]))
                    .collect();
                json!({
                    "offset": placed.offset.0,
                    "timestamp": time(placed.timestamp),
                    "key": lossy(placed.record.key),
                    "value": lossy(placed.record.value),
                    "headers": headers,
                })
            }
        });
        records.collect::<Vec<_>>()
    });
    json!({
        "baseOffset": batch.base_offset().0,
        "lastOffset": batch.last_offset().0,
        "leaderEpoch": batch.leader_epoch().0,
        "attributes": batch.attributes(),
        "crcIsRight": batch.crc_is_valid(),
        "maxTimestamp": time(batch.max_timestamp()),
        "producerId": batch.producer_id().0,
        "producerEpoch": batch.producer_epoch().0,
        "baseSequence": batch.base_sequence(),
        "records": records.unwrap_or_else(|error| vec![json!(error.to_string())]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_comes_back_from_its_batch() {
        let description = json!({
            "codec": "gzip", "time": 5, "producer": [7, 1, 3],
            "records": [{"key": "k", "value": "v", "headers": [["a", "1"], ["a", null]]}],
        });
        let bytes = build(&description).expect("valid");
        let described = describe(&bytes);
        assert_eq!(described[0]["producerId"], 7);
        assert_eq!(described[0]["crcIsRight"], true);
        assert_eq!(described[0]["records"][0]["timestamp"], 5);
        assert_eq!(described[0]["records"][0]["headers"], json!([["a", "1"], ["a", null]]));
    }

    #[test]
    fn patches_keep_the_crc_right_unless_they_break_it() {
        let patched = |patch: Value| {
            let bytes = build(&json!({"values": ["x"], "patch": patch})).expect("valid");
            describe(&bytes)[0].clone()
        };
        let sequence = patched(json!({"53": "00000009"}));
        assert_eq!((&sequence["baseSequence"], &sequence["crcIsRight"]), (&json!(9), &json!(true)));
        assert_eq!(patched(json!({"17": "00000000"}))["crcIsRight"], false);
    }
}
