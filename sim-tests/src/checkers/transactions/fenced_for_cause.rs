//! I19C: a producer is told that another has taken its place only where something may have done so: somebody who asked
//! for an epoch under its transactional id, or its transaction's timeout.
//!
//! Whoever asks for an epoch and is not answered, or not the first time, may be heard later, so what has no answer is a
//! cause from then on. Operators, who may abort a transaction too, have no part in the loads.

use std::collections::BTreeMap;

use super::super::Checker;
use crate::history::{Fact, OperationId};

/// By how much the clock of a node may run faster than others, in percent.
const DRIFT: u64 = 15;

/// Follows who asks for epochs under which name, and since when transactions are open.
#[derive(Debug, Default)]
pub struct FencedForCause {
    /// How many questions for an epoch have no answer, by the name and the client.
    unanswered: BTreeMap<u32, BTreeMap<usize, u64>>,
    holders: BTreeMap<usize, Holder>,
    /// When each began, and how long it may be open.
    transactions: BTreeMap<OperationId, (u64, u64)>,
    evaluations: u64,
}

/// A client that has asked for an epoch, or was given one.
#[derive(Debug)]
struct Holder {
    name: u32,
    is_ready: bool,
    /// Whether somebody's question may come to effect after its own.
    may_be_fenced: bool,
}

impl FencedForCause {
    fn asked(&mut self, client: usize, name: u32) {
        let unanswered = self.unanswered.entry(name).or_default();
        let others = unanswered.values().any(|&count| count > 0);
        *unanswered.entry(client).or_insert(0) += 1;
        for (_, holder) in self.holders.iter_mut().filter(|(at, _)| **at != client) {
            holder.may_be_fenced |= holder.name == name;
        }
        let known = self.holders.get(&client).filter(|holder| !holder.is_ready);
        let may_be_fenced = others || known.is_some_and(|holder| holder.may_be_fenced);
        self.holders.insert(client, Holder { name, is_ready: false, may_be_fenced });
    }

    fn ready(&mut self, client: usize) {
        let Some(holder) = self.holders.get_mut(&client) else { return };
        let Some(unanswered) = self.unanswered.get_mut(&holder.name) else { return };
        if let Some(count) = unanswered.get_mut(&client) {
            *count = count.saturating_sub(1);
        }
        holder.is_ready = true;
        holder.may_be_fenced |= unanswered.values().any(|&count| count > 0);
    }

    fn fenced(
        &mut self,
        at: u64,
        client: usize,
        transaction: Option<OperationId>,
    ) -> Result<(), String> {
        let Some(holder) =
            self.holders.get(&client).filter(|holder| holder.is_ready && !holder.may_be_fenced)
        else {
            return Ok(());
        };
        self.evaluations += 1;
        let words = format!("client {client} was told that somebody has taken its place");
        let Some(id) = transaction else {
            return Err(format!(
                "{words}, with no transaction open, and nobody else has asked for an epoch as writer {}",
                holder.name
            ));
        };
        let (begun, timeout) = self.transactions.get(&id).copied().unwrap_or((at, u64::MAX));
        let open = at - begun;
        if open < timeout / 100 * (100 - DRIFT) {
            return Err(format!(
                "{words}, and nobody else has asked for an epoch as writer {}; its {id:?} was open for {} ms of {}",
                holder.name,
                open / 1_000_000,
                timeout / 1_000_000
            ));
        }
        Ok(())
    }
}

impl Checker for FencedForCause {
    fn id(&self) -> &'static str {
        "I19C"
    }

    fn promise(&self) -> &'static str {
        "A producer is fenced by another one with its transactional id, or by the timeout of its transaction, and by \
         nothing else."
    }

    fn observe(&mut self, at: u64, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::ProducerAsked { client, name } => self.asked(*client, *name),
            Fact::ProducerReady { client, .. } => self.ready(*client),
            Fact::TransactionBegun { transaction, timeout, .. } => {
                self.transactions.insert(*transaction, (at, *timeout));
            }
            Fact::ProducerFenced { client, transaction } => {
                return self.fenced(at, *client, *transaction);
            }
            _ => {}
        }
        Ok(())
    }

    fn evaluations(&self) -> u64 {
        self.evaluations
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::*;
    use super::*;

    const MS: u64 = 1_000_000;

    fn asked(client: usize) -> (u64, Fact) {
        (0, Fact::ProducerAsked { client, name: 3 })
    }

    fn ready(client: usize) -> (u64, Fact) {
        (0, Fact::ProducerReady { client, producer_id: 9, producer_epoch: 0 })
    }

    fn begun() -> (u64, Fact) {
        (0, Fact::TransactionBegun { transaction: op(1), name: 3, timeout: 1_000 * MS })
    }

    fn fenced(at: u64, client: usize, transaction: Option<OperationId>) -> (u64, Fact) {
        (at * MS, Fact::ProducerFenced { client, transaction })
    }

    fn judged(facts: &[(u64, Fact)]) -> Result<u64, String> {
        let mut checker = FencedForCause::default();
        for (at, fact) in facts {
            checker.observe(*at, fact)?;
        }
        Ok(checker.evaluations())
    }

    #[test]
    fn a_producer_that_nobody_has_fenced_is_found() {
        judged(&[asked(1), ready(1), fenced(5, 1, None)]).expect_err("it is alone");
        let story = |at| judged(&[asked(1), ready(1), begun(), fenced(at, 1, Some(op(1)))]);
        story(500).expect_err("its transaction has time");
        assert_eq!(story(900), Ok(1), "a clock may run fast");
        // Who asked before was answered before.
        judged(&[asked(2), ready(2), asked(1), ready(1), fenced(5, 1, None)])
            .expect_err("the other one came first");
    }

    #[test]
    fn whoever_asks_is_a_cause() {
        let others = [asked(1), ready(1), asked(2), fenced(5, 1, None)];
        assert_eq!(judged(&others), Ok(0));
        let unanswered = [asked(2), asked(1), ready(1), fenced(5, 1, None)];
        assert_eq!(judged(&unanswered), Ok(0));
        let crossed = [asked(1), asked(2), ready(2), ready(1), fenced(5, 1, None)];
        assert_eq!(judged(&crossed), Ok(0), "the answers cross on their way");
        let own = [asked(1), asked(1), ready(1), fenced(5, 1, None)];
        assert_eq!(judged(&own), Ok(0), "its first question may come late");
    }
}
