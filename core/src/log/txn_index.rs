//! Kafka's file of the aborted transactions whose markers lie in one segment: `.txnindex`.
//!
//! It is written for Kafka's tools. It has no checksum, so nothing here is read back from it: a start takes
//! the transactions from the file of producers, or from the segments.
//!
//! Source: Kafka's `TransactionIndex` and `AbortedTxn` version 0: version i16, producer id i64, first
//! offset i64, offset of the marker i64, last stable offset i64, big-endian, in the order of the markers.

use bytes::{Buf, BufMut};

use crate::ids::{Offset, ProducerId};
use crate::log::producer_state::EndedTransaction;

/// Bytes of one entry.
pub const ENTRY_LEN: usize = 2 + 8 + 8 + 8 + 8;
const VERSION: i16 = 0;

/// Writes a file.
pub fn encode(aborted: &[EndedTransaction]) -> Vec<u8> {
    let mut out = Vec::with_capacity(aborted.len() * ENTRY_LEN);
    for transaction in aborted {
        out.put_i16(VERSION);
        out.put_i64(transaction.producer_id.0);
        out.put_i64(transaction.first_offset.0);
        out.put_i64(transaction.last_offset.0);
        out.put_i64(transaction.last_stable_offset.0);
    }
    out
}

/// Reads a file for people: producer id, first offset, offset of the marker, last stable offset. `None`
/// where it is none, or its markers do not rise.
pub fn decode(mut bytes: &[u8]) -> Option<Vec<(ProducerId, Offset, Offset, Offset)>> {
    let mut out: Vec<(ProducerId, Offset, Offset, Offset)> = Vec::new();
    while bytes.has_remaining() {
        if bytes.len() < ENTRY_LEN || bytes.get_i16() != VERSION {
            return None;
        }
        let id = ProducerId(bytes.get_i64());
        let (first, last) = (Offset(bytes.get_i64()), Offset(bytes.get_i64()));
        let stable = Offset(bytes.get_i64());
        if out.last().is_some_and(|(.., before, _)| *before >= last) || first > last {
            return None;
        }
        out.push((id, first, last, stable));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aborted(id: i64, first: i64, last: i64) -> EndedTransaction {
        EndedTransaction {
            producer_id: ProducerId(id),
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(7),
            committed: false,
        }
    }

    #[test]
    fn the_file_has_kafkas_layout() {
        let bytes = encode(&[aborted(1, 2, 0x0102)]);
        let numbers = [1_i64, 2, 0x0102, 7].map(i64::to_be_bytes).concat();
        assert_eq!(bytes, [&[0, 0][..], &numbers].concat());
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_not_where_it_is_cut_or_disordered() {
        let whole = encode(&[aborted(1, 2, 9), aborted(2, 0, 10)]);
        let one = |id, first, last| (ProducerId(id), Offset(first), Offset(last), Offset(7));
        assert_eq!(decode(&whole), Some(vec![one(1, 2, 9), one(2, 0, 10)]));
        for at in (0..whole.len()).filter(|at| at % ENTRY_LEN != 0) {
            assert_eq!(decode(&whole[..at]), None);
        }
        assert_eq!(decode(&encode(&[aborted(2, 0, 10), aborted(1, 2, 9)])), None);
        assert_eq!(decode(&[1; ENTRY_LEN]), None);
    }
}
