//! Seeds that failed once, each with its story.
//!
//! A seed is the same run only as long as nothing changes the order of events, so each story also names the
//! test that holds the thing itself. Seeds stay, because they cost little and found something before.
//!
//! Schedules that failed stand as files in `regressions`, each with its story in `about`. They mean the same
//! faults and clients whatever becomes of the drawing.

use std::path::Path;

use mainspring_sim::scenarios::{self, RunOptions};
use mainspring_sim::schedule::Schedule;

/// A seed that failed.
struct Failure {
    scenario: &'static str,
    seed: u64,
    /// What went wrong, and what holds it today.
    story: &'static str,
}

const FAILURES: &[Failure] = &[
    Failure {
        scenario: "cluster",
        seed: 88_054,
        story: "a start read the indexes of the last segment back, the segment went on, and a lookup by time passed over a \
                record that had no entry yet; at new leaders of 32 more of a hundred seeds it found nothing at all",
    },
    Failure {
        scenario: "log",
        seed: 52,
        story: "of the simulator itself: what was queued behind the byte at which a reset struck was sent all the same, once \
                the window opened",
    },
    Failure {
        scenario: "crash-points",
        seed: 1_236_421_562,
        story: "of the simulator itself: a truncation that did not survive brought back what a producer had sent before its \
                epoch was raised, and it went on in the new one behind that",
    },
    Failure {
        scenario: "disk-faults",
        seed: 752,
        story: "a bit flipped on the way from a producer file, and another from a segment that was read in its place: the \
                partition took nothing more, a checkpoint covered what had come since and still named the producer file \
                from before it, and the next start, which read that well, knew producers as they had been. Seeds 465, \
                505, 702, 1962, 2262, 2537, 2634 and 2642 were the same. damage_test.rs: \
                producer_files_of_an_earlier_checkpoint_are_not_taken_for_those_of_a_later_one",
    },
    Failure {
        scenario: "disk-faults",
        seed: 2_537,
        story: "the same; before that, what a flush had failed for was lost, as in seed 2819",
    },
    Failure {
        scenario: "disk-faults",
        seed: 2_819,
        story: "a flush failed, and the next start went on in another file of the journal, whose head then said that what \
                stood in the page cache alone was durable; killed before it had written that again, it served it in \
                its next life, and the power took it. start_test.rs: \
                starts_that_are_killed_before_their_tail_is_proven_do_not_make_it_longer, and scan.rs: \
                a_head_proves_nothing_that_its_start_had_still_to_write_again",
    },
    Failure {
        scenario: "cluster",
        seed: 7_710_009,
        story: "of the simulator itself: a leader whose machine had stood still for eight seconds, clocks and all, told \
                the end of when it fell asleep, which it may until its lease is over by its own clock",
    },
    Failure {
        scenario: "topics",
        seed: 7_702_052,
        story: "of the simulator itself: a description of a topic that came after the answer to its growth took a \
                partition out of what the last reader reads, and its records counted as lost",
    },
    Failure {
        scenario: "log",
        seed: 102_451_567_857,
        story: "a clock leapt ten years ahead, was not believed, and went twenty years back; what producers sent \
                then was stamped as of long ago, so they were forgotten at once and a repeated batch stood twice",
    },
    Failure {
        scenario: "disk-faults",
        seed: 72,
        story: "a flush failed and left its block in the page cache; the next start read it there, wrote it again \
                and went on; when the power took the first copy, the start after it refused to start. So it was later \
                with the head of a file of the journal. \
                start_test.rs: a_start_writes_the_head_of_a_file_again_that_no_durable_block_proves",
    },
    Failure {
        scenario: "disk-full",
        seed: 614_725_311_237,
        story: "of the simulator itself: 10.7 million events for 12 s, because a full window opened by one \
                byte for each byte that was taken, and crumbled all that followed; a range of such seeds \
                could seem to hang. net.rs: a_full_window_does_not_crumble_what_follows",
    },
    Failure {
        scenario: "log",
        seed: 40,
        story: "of the simulator itself: two jumps of a wall clock added up to more than the hour by which \
                a record may be ahead, and sends were refused with 32, which no checker noticed. \
                refusals.rs: a_send_that_is_refused_for_good_is_found",
    },
    Failure {
        scenario: "groups",
        seed: 431_001_495_656,
        story: "of the simulator itself: a crowd had left a hundred timers of frames that came late and are \
                whole by now; the shard found them in a row, each with nothing to do, and was taken for one \
                that spins; wakeups are counted for each owner of a deadline now",
    },
    Failure {
        scenario: "groups",
        seed: 122_315_725_362,
        story: "of the simulator itself: a member whose answer to JoinGroup was lost made up the number of a generation \
                to commit in, one above its own, and had guessed the one that it was in by then; numbers that are \
                made up are far away now",
    },
    Failure {
        scenario: "disk-full",
        seed: 187_188_374_210,
        story: "of a checker: a disk that was full for 26 ms was taken for a fault that leaves nothing behind, but \
                the node waits before it writes again and refused producers back off for longer each time; \
                only pauses and faults of the network count as such now",
    },
    Failure {
        scenario: "transactions",
        seed: 10,
        story: "a request of an old producer to take a group into its transaction came late, on a connection that \
                the producer had left, and began another one: in version 4 it was taken for one of the kind that \
                carries a new epoch each time; that one timed out, and the producer was fenced by nobody. \
                a_group_that_an_old_client_added_on_a_connection_that_it_has_left_begins_no_transaction",
    },
    Failure {
        scenario: "cluster-transactions",
        seed: 200_021,
        story: "all of a coordinator's log was committed while the coordinator read it, so nothing that came later \
                told it to send the markers of what was decided before, and the transaction stayed open. \
                a_decision_that_is_committed_while_the_next_coordinator_loads_is_carried_out",
    },
    Failure {
        scenario: "cluster-transactions",
        seed: 200_243,
        story: "of the simulator itself: the logs were read for the last time while markers were on their way still, \
                and a transaction that was whole a second later seemed torn",
    },
    Failure {
        scenario: "cluster",
        seed: 600_757,
        story: "of the simulator itself: faults let no cluster come about for 17 s, then one node was taken away for \
                good, and the others, which are no cluster without it, were to serve",
    },
    Failure {
        scenario: "transactions",
        seed: 501_332,
        story: "of the simulator itself: what was left for a reader of committed records at the end was 900 small \
                segments, and it asked for one every 100 ms; 200 s were too short for it",
    },
    Failure {
        scenario: "cluster-transactions",
        seed: 200_645,
        story: "of a checker: a node that had been told to stop before the last fault ended four seconds after it, and \
                the other one of the two that were left was to lead without it",
    },
    Failure {
        scenario: "transactions",
        seed: 604,
        story: "a consumer was put out of its group and given the same partition again between two calls of its program; \
                the program's way back after an aborted transaction was taken for one in the new holding, and records \
                that another had dealt with were dealt with again, and committed. consumer/mod.rs: seek",
    },
    Failure {
        scenario: "cluster-transactions",
        seed: 40,
        story: "the coordinator that a producer had found was fenced before the producer heard of the brokers again, was in \
                no list of them any more, and was waited for for ever. transaction/tests/errors.rs: \
                a_coordinator_that_the_cluster_does_not_list_is_looked_for_again",
    },
    Failure {
        scenario: "cluster-transactions",
        seed: 289,
        story: "a producer asked the one broker that it had a connection to for its coordinator, which was cut off for good and \
                named itself. network.rs: \
                whoever_asks_others_is_not_left_with_the_one_that_there_is_a_connection_to",
    },
    Failure {
        scenario: "cluster-transactions",
        seed: 481,
        story: "markers were sent to a leader that died without a word, and waited half a minute for an answer before the \
                next leader was asked. peer/tests.rs: \
                what_a_node_is_asked_about_transactions_fails_when_it_is_forsaken_and_the_rest_does_not",
    },
    Failure {
        scenario: "cluster-transactions",
        seed: 184,
        story: "of the simulator itself: whoever makes records of records slept within a transaction, and the faults were \
                blamed for the time",
    },
    Failure {
        scenario: "crash-points",
        seed: 522_179_039_455,
        story: "a start moved over all of a segment whose batches were not written yet, more came behind it and was cut \
                back, and the process died: the replay let the segment go, gave what came behind it one of its own, \
                and found nothing to cut where the entry said; the node refused to start. replay.rs: replay_cut",
    },
    Failure {
        scenario: "crash-points",
        seed: 214_284_570_718,
        story: "of the scenario itself: a truncation did not survive a power cut, and what a producer had sent behind it \
                was still held against the log",
    },
    Failure {
        scenario: "crash-points",
        seed: 1_234_610,
        story: "of the scenario itself: what a lazy log had promised before a truncation was asked for behind a power cut",
    },
    Failure {
        scenario: "topics",
        seed: 165_025_182_008,
        story: "a start made the log of a topic that was made again before it deleted the one before it, both in one \
                folder, and was killed in between; the next start knew two logs of one folder and failed",
    },
    Failure {
        scenario: "cluster",
        seed: 181,
        story: "a leader remembered what a follower had durable although its disk had been replaced since, within one \
                epoch, and took it back into the in-sync set. in_sync.rs: \
                what_a_follower_had_in_an_earlier_registration_counts_no_more. Later it found that the answer to one \
                request for an in-sync set was taken for that to the next, so that the high watermark did not wait for \
                a member that the controller was about to grant: \
                the_answer_to_an_earlier_request_is_not_taken_for_that_to_a_later_one",
    },
    Failure {
        scenario: "cluster",
        seed: 20_446,
        story: "a leader stood still for longer than its session and was fenced; its first word afterwards unfenced it, \
                and its lease began before it knew that another led, so that it told an end of long ago. sessions.rs: \
                a_broker_that_was_fenced_is_back_once_it_has_applied_that",
    },
    Failure {
        scenario: "cluster",
        seed: 2024,
        story: "a follower joined with records before the start of its leader's log that were never committed: the \
                leader no longer knew their epoch. in_sync.rs: \
                a_follower_that_begins_before_the_leader_does_not_join",
    },
    Failure {
        scenario: "cluster",
        seed: 267,
        story: "a purge was answered while a fenced member had not heard of it, which led later and began earlier. \
                in_sync.rs: a_purge_waits_for_a_member_that_is_fenced_too",
    },
    Failure {
        scenario: "cluster",
        seed: 50_692,
        story: "a batch was on its way to a leader that was cut off while the next one took more batches than a broker \
                remembers: it came back, was not known again, and was refused for good although it stood in the log. \
                sequences.rs: no_more_is_taken_behind_one_that_is_not_settled_than_the_broker_remembers",
    },
    Failure {
        scenario: "cluster",
        seed: 50_176,
        story: "a line was too slow for an answer of a megabyte within a second and a half, so that a node with an empty \
                disk never came back in sync. peer: an_answer_that_comes_slowly_is_late_only_once_it_stands_still",
    },
    Failure {
        scenario: "cluster",
        seed: 151,
        story: "a purge moved a leader's start into the middle of a batch, and an empty follower refused that batch for \
                ever, as did producers for want of it; seed 172 is another",
    },
    Failure {
        scenario: "cluster",
        seed: 8078,
        story: "a client that knew a broker alone which was cut off asked it for leaders for a hundred seconds; seeds 4 \
                and 179 are others. network.rs: who_answers_nothing_new_to_doubts_is_not_the_only_one_asked",
    },
    Failure {
        scenario: "cluster",
        seed: 12,
        story: "of the simulator itself: the ends of earlier troubles lifted what was to cut a node off for good, or to \
                hold it still; seeds 292 and 2081 are others",
    },
    Failure {
        scenario: "cluster",
        seed: 3179,
        story: "of the simulator itself: a cut that a crash undid counted as done",
    },
    Failure {
        scenario: "topics",
        seed: 752_829_448_462,
        story: "a deletion stood behind more than the files of the journal took: no checkpoint began before it was \
                durable, no file was free without one, and the broker took nothing any more. \
                deletion_test.rs: a_deletion_behind_more_than_the_ring_holds_does_not_stop_the_journal",
    },
    Failure {
        scenario: "groups",
        seed: 352_073_079_188,
        story: "of the simulator itself: a consumer whose node had died without a word found that out connection by \
                connection, 29 s in all, and was taken for one that had read to the end after 25 s",
    },
    Failure {
        scenario: "cluster-delays",
        seed: 16,
        story: "of the simulator itself: whoever alters what waits asked for a topic before it was there, and so made it, \
                without the features that it was to have",
    },
    Failure {
        scenario: "cluster-delays",
        seed: 1_795_905_587_853,
        story: "the start of a log moved while its new leader read it: the view of what clients see waited for ever for what \
                lay below, and fetches were answered with nothing. \
                scheduled_test.rs: a_start_that_moves_while_the_log_is_read_hides_nothing_from_clients",
    },
    Failure {
        scenario: "transactions",
        seed: 1_795_905_590_328,
        story: "of the simulator itself: pipelines that had fallen far behind went on for more than 200 s",
    },
    Failure {
        scenario: "disk-faults",
        seed: 880,
        story: "a read of the head of the journal's only file went astray once, the journal was taken for one that was never \
                used, and the node began anew. \
                start_test.rs: a_head_that_is_read_wrongly_once_loses_nothing_and_keeps_no_node_from_starting",
    },
    Failure {
        scenario: "disk-faults",
        seed: 497,
        story: "of the simulator itself: the length of a file whose first flush had failed stayed lost although what lay in it \
                was written and flushed later. disk/tests.rs: \
                what_is_written_and_flushed_makes_a_file_long_enough_whose_growth_was_dropped",
    },
    Failure {
        scenario: "disk-faults",
        seed: 140,
        story: "of the simulator itself: a start had met a fault and gave up a second later, when faults were over",
    },
    Failure {
        scenario: "cluster-transactions",
        seed: 1_795_911_684_489,
        story: "a follower had one record that was never committed, and its new leader had none and knew of no epoch: the \
                follower was told that its offset is out of range, waited, and never came back in sync. scheduled_test.rs: \
                a_follower_of_a_leader_without_records_is_told_to_cut_what_it_has_more",
    },
];

#[test]
fn what_failed_once_passes() {
    for Failure { scenario, seed, story } in FAILURES {
        let known = scenarios::find(scenario).expect("a scenario of that name");
        let outcome = known.run(*seed, &RunOptions::default());
        assert_eq!(outcome.alarm, None, "mainspring sim replay {scenario} --seed {seed}: {story}");
        assert!(
            outcome.events < 1_000_000,
            "{scenario} {seed}, {} events: {story}",
            outcome.events
        );
    }
}

#[test]
fn schedules_that_failed_once_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions");
    let files = std::fs::read_dir(folder).expect("the folder of schedules");
    let mut count = 0;
    for file in files {
        let path = file.expect("an entry of the folder").path();
        let text = std::fs::read_to_string(&path).expect("a text");
        let schedule = Schedule::read(&text);
        let schedule = schedule.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let about = text.lines().find(|line| line.contains("\"about\""));
        let about = about.unwrap_or_else(|| panic!("{} has no story", path.display()));
        let outcome = schedule.run(&RunOptions::default());
        let path = path.display();
        assert_eq!(outcome.alarm, None, "mainspring sim replay --schedule {path}: {about}");
        count += 1;
    }
    assert!(count > 0, "there are schedules");
}
