use std::collections::BTreeSet;

use super::*;
use crate::rng::Stream as Chance;

const A: Address = Address::Client(0);
const B: Address = Address::Node(0);

struct Bench {
    net: SimNet,
    notices: Vec<Notice>,
    received: [Vec<u8>; 2],
    largest: usize,
    transmitted: [u64; 2],
    closed: [bool; 2],
    at: u64,
}

impl Bench {
    fn new(options: NetOptions, seed: u64) -> (Self, StreamId) {
        let mut net = SimNet::new(options, Rng::new(seed, Chance::Net));
        let (stream, _) = net.open(A, B);
        let bench = Self {
            net,
            notices: Vec::new(),
            received: [Vec::new(), Vec::new()],
            largest: 0,
            transmitted: [0; 2],
            closed: [false; 2],
            at: 0,
        };
        (bench, stream)
    }

    fn send(&mut self, stream: StreamId, side: Side, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.net.send(self.at, stream, side, [bytes], &mut self.notices);
    }

    /// Lets time pass until nothing more happens.
    fn settle(&mut self) {
        while !self.notices.is_empty() {
            self.notices.sort_by_key(|notice| std::cmp::Reverse(notice.at));
            let notice = self.notices.pop().expect("not empty");
            self.at = self.at.max(notice.at);
            while let Some(delivery) =
                self.net.deliver(self.at, notice.stream, notice.side, &mut self.notices)
            {
                match delivery {
                    Delivery::Received(bytes) => {
                        self.largest = self.largest.max(bytes.len());
                        self.received[notice.side].extend_from_slice(&bytes);
                    }
                    Delivery::Transmitted(bytes) => self.transmitted[notice.side] += bytes,
                    Delivery::Closed => self.closed[notice.side] = true,
                }
            }
        }
    }
}

#[test]
fn bytes_arrive_in_order_however_they_are_cut() {
    let sent: Vec<u8> = (0..5000).map(|i| i as u8).collect();
    for seed in 0..20 {
        let (mut bench, stream) =
            Bench::new(NetOptions { split: 900, ..NetOptions::default() }, seed);
        for piece in sent.chunks(700) {
            bench.send(stream, 0, piece);
        }
        bench.settle();
        assert_eq!(bench.received[1], sent);
        assert_eq!(bench.transmitted[0], 5000);
    }
}

#[test]
fn pieces_down_to_one_byte_are_delivered_and_joined() {
    let (mut bench, stream) = Bench::new(NetOptions { split: 1000, ..NetOptions::default() }, 3);
    bench.net.set_want(stream, 1, 7);
    bench.send(stream, 0, &[1; 500]);
    bench.settle();
    assert_eq!(bench.received[1].len(), 500);
    assert!(bench.largest <= 7 && bench.net.counters().splits > 5);
}

#[test]
fn a_full_window_does_not_crumble_what_follows() {
    let options = NetOptions { split: 700, window: 2_048, ..NetOptions::default() };
    let (mut bench, stream) = Bench::new(options, 5);
    bench.send(stream, 0, &vec![1; 100_000]);
    bench.settle();
    assert_eq!(bench.received[1].len(), 100_000);
    let splits = bench.net.counters().splits;
    assert!(splits < 1_000, "{splits} pieces of 100 bytes or less on the average");
}

#[test]
fn who_does_not_read_stops_the_sender_at_the_window() {
    let (mut bench, stream) = Bench::new(NetOptions { window: 1000, ..NetOptions::default() }, 1);
    bench.net.set_reading(0, stream, 1, false, &mut bench.notices);
    bench.send(stream, 0, &[1; 5000]);
    bench.settle();
    assert_eq!((bench.transmitted[0], bench.received[1].len()), (1000, 0));

    bench.net.set_reading(bench.at, stream, 1, true, &mut bench.notices);
    bench.settle();
    assert_eq!((bench.transmitted[0], bench.received[1].len()), (5000, 5000));
}

#[test]
fn a_close_lets_what_was_sent_arrive_and_tells_both_ends() {
    let (mut bench, stream) = Bench::new(NetOptions::default(), 1);
    bench.send(stream, 1, &[1; 3000]);
    bench.net.close(0, stream, 1, &mut bench.notices);
    bench.settle();
    assert_eq!(bench.received[0].len(), 3000);
    assert_eq!(bench.closed, [true, true]);
}

#[test]
fn a_reset_strikes_behind_any_byte() {
    let mut lengths = BTreeSet::new();
    for seed in 0..60 {
        let (mut bench, stream) =
            Bench::new(NetOptions { reset: 1000, ..NetOptions::default() }, seed);
        bench.send(stream, 0, &[1; 10]);
        bench.settle();
        assert_eq!(bench.closed, [true, true]);
        lengths.insert(bench.received[1].len());
    }
    assert!(lengths.contains(&0) && lengths.contains(&10) && lengths.len() > 6, "{lengths:?}");
}

#[test]
fn nothing_comes_behind_the_byte_at_which_a_reset_strikes() {
    let sent: Vec<u8> = (0..200).collect();
    for seed in 0..60 {
        let options = NetOptions { reset: 1000, window: 32, ..NetOptions::default() };
        let (mut bench, stream) = Bench::new(options, seed);
        bench.send(stream, 0, &sent);
        bench.settle();
        let received = &bench.received[1];
        assert!(received.len() <= 32 && sent.starts_with(received), "{received:?}");
    }
}

#[test]
fn a_peer_that_died_half_open_is_never_heard_of() {
    for (half_open, told) in [(0, true), (1000, false)] {
        let (mut bench, stream) = Bench::new(NetOptions { half_open, ..NetOptions::default() }, 1);
        bench.net.die(0, stream, 1, &mut bench.notices);
        bench.settle();
        assert_eq!(bench.closed, [told, false]);
    }
}

#[test]
fn what_a_sender_drops_may_come_all_the_same_and_then_the_end() {
    for (lingering, told) in [(0, &b""[..]), (1000, &b"late"[..])] {
        let (mut bench, stream) = Bench::new(NetOptions { lingering, ..NetOptions::default() }, 1);
        bench.send(stream, 0, b"late");
        bench.net.abort(0, stream, 0, &mut bench.notices);
        bench.send(stream, 1, b"nobody hears it");
        bench.settle();
        assert_eq!((&bench.received[1][..], &bench.received[0][..]), (told, &b""[..]));
        assert_eq!(bench.closed, [true, true]);
        assert_eq!(bench.at > 100_000_000, lingering > 0, "much later");
        assert_eq!(bench.net.counters().lingering, u64::from(lingering > 0));
    }
}

#[test]
fn a_cut_holds_one_direction_until_it_is_healed() {
    let (mut bench, stream) = Bench::new(NetOptions::default(), 1);
    bench.net.trouble(A, B, LinkTrouble::Cut);
    bench.send(stream, 0, b"held");
    bench.send(stream, 1, b"passes");
    bench.settle();
    assert_eq!((&bench.received[1][..], &bench.received[0][..]), (&b""[..], &b"passes"[..]));

    let at = bench.at;
    bench.net.heal(at, &mut bench.notices);
    bench.settle();
    assert_eq!(bench.received[1], b"held");
}

#[test]
fn a_trouble_holds_in_one_direction_between_two_addresses_and_ends() {
    let (mut bench, stream) = Bench::new(NetOptions::default(), 1);
    bench.net.trouble(A, B, LinkTrouble::Cut);
    bench.net.trouble(A, Address::Node(1), LinkTrouble::Cut);
    bench.send(stream, 0, b"held");
    bench.send(stream, 1, b"passes");
    bench.settle();
    assert_eq!((bench.received[1].len(), &bench.received[0][..]), (0, &b"passes"[..]));
    let at = bench.at;
    bench.net.relieve(at, (A, B), LinkTrouble::Cut, &mut bench.notices);
    bench.settle();
    assert_eq!(&bench.received[1][..], b"held");
    assert!(bench.net.is_cut(A, Address::Node(1)), "the other one goes on");
}

#[test]
fn a_line_of_a_kilobyte_per_second_takes_its_time_and_brings_everything() {
    let (mut bench, stream) = Bench::new(NetOptions::default(), 1);
    bench.net.trouble(A, B, LinkTrouble::Bandwidth(1_000));
    bench.send(stream, 0, &[7; 5_000]);
    bench.settle();
    assert_eq!(bench.received[1].len(), 5_000);
    assert!((4_900_000_000..6_000_000_000).contains(&bench.at), "{}", bench.at);
}

#[test]
fn lost_pieces_come_when_they_are_sent_again_and_in_order() {
    let (mut bench, stream) = Bench::new(NetOptions { split: 900, ..NetOptions::default() }, 1);
    bench.net.trouble(A, B, LinkTrouble::Stall(1_000));
    let sent: Vec<u8> = (0..200).map(|i| i as u8).collect();
    bench.send(stream, 0, &sent);
    bench.settle();
    assert_eq!(bench.received[1], sent);
    assert!(bench.at > 200_000_000 && bench.net.counters().stalls > 0);
}

#[test]
fn a_late_line_is_late_and_a_clogged_one_lets_little_on_its_way() {
    let (mut bench, stream) = Bench::new(NetOptions::default(), 1);
    bench.net.trouble(A, B, LinkTrouble::Delay(1_000_000_000));
    bench.send(stream, 0, b"late");
    bench.settle();
    assert!(bench.at > 50_000_000, "{}", bench.at);

    let (mut bench, stream) = Bench::new(NetOptions::default(), 1);
    bench.net.trouble(A, B, LinkTrouble::Clog(100));
    bench.net.set_reading(0, stream, 1, false, &mut bench.notices);
    bench.send(stream, 0, &[1; 1_000]);
    bench.settle();
    assert_eq!(bench.transmitted[0], 100);
    let at = bench.at;
    bench.net.relieve(at, (A, B), LinkTrouble::Clog(100), &mut bench.notices);
    bench.settle();
    assert_eq!(bench.transmitted[0], 1_000, "the sender goes on by itself");
}

#[test]
fn a_crumbling_line_delivers_single_bytes() {
    let (mut bench, stream) = Bench::new(NetOptions { split: 0, ..NetOptions::default() }, 1);
    bench.net.trouble(A, B, LinkTrouble::Crumble(1_000));
    bench.send(stream, 0, &[1; 300]);
    bench.settle();
    assert_eq!(bench.received[1].len(), 300);
    assert_eq!(bench.net.counters().splits, 300);
}

#[test]
fn a_line_that_resets_strikes_one_direction_and_a_silent_one_tells_of_no_death() {
    let (mut bench, stream) = Bench::new(NetOptions::default(), 1);
    bench.net.trouble(A, B, LinkTrouble::Reset(1_000));
    bench.send(stream, 1, b"fine");
    bench.settle();
    assert_eq!(bench.closed, [false, false]);
    bench.send(stream, 0, b"ends here");
    bench.settle();
    assert_eq!(bench.closed, [true, true]);

    let (mut bench, stream) = Bench::new(NetOptions::default(), 1);
    bench.net.trouble(B, A, LinkTrouble::Silent);
    bench.net.die(0, stream, 1, &mut bench.notices);
    bench.settle();
    assert_eq!(bench.closed, [false, false]);
}
