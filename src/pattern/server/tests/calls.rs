//! Calls: from the queue to the answer, their bounds, and what becomes of them when a connection is lost.

use super::*;

#[test]
fn call_is_queued_started_and_answered_once() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 1_000, &[]);
    let [ticket] = work(&mut hand)[..] else { panic!("one call") };
    let now = hand.now;
    assert_eq!(hand.machine.start(now, ticket).as_deref(), Ok(&b"args"[..]));
    assert_eq!(hand.machine.start(now, ticket), Err(NotStarted::Started));
    assert!(hand.machine.reply(ticket, Status::Ok, b"result"));
    assert!(!hand.machine.reply(ticket, Status::Ok, b"second"));
    hand.expect(conn, reply(1, Status::Ok, b"result")).expect_silence(conn);
    assert!(hand.machine.stats().replier.result_bytes > 0, "kept until it is settled");
    settle(&mut hand, conn, false, &[1]);
    let stats = hand.machine.stats().replier;
    assert_eq!((stats.result_bytes, stats.queued_bytes, stats.dropped_results), (0, 0, 1));
}

#[test]
fn expired_call_does_not_start() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 100, &[]);
    let ticket = work(&mut hand)[0];
    hand.at(100);
    let now = hand.now;
    assert_eq!(hand.machine.start(now, ticket), Err(NotStarted::Expired));
    hand.expect(conn, reply(1, Status::NotExecuted(Refusal::Expired), b""));
    assert_eq!(hand.machine.start(now, ticket), Err(NotStarted::Started));
}

#[test]
fn call_settled_while_queued_never_runs_and_one_settled_while_running_has_its_result_dropped() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 1_000, &[]);
    request(&mut hand, conn, 2, 1_000, &[]);
    let [queued, running] = work(&mut hand)[..] else { panic!("two calls") };
    let now = hand.now;
    hand.machine.start(now, running).unwrap();
    settle(&mut hand, conn, false, &[1, 2]);
    assert_eq!(hand.machine.start(now, queued), Err(NotStarted::Withdrawn));
    assert!(!hand.machine.reply(running, Status::Ok, b"result"));
    hand.expect_silence(conn);
    let stats = hand.machine.stats().replier;
    assert_eq!((stats.withdrawn, stats.dropped_results, stats.queued_bytes), (1, 1, 0));
}

#[test]
fn settled_ids_are_applied_before_the_request_that_they_ride_on_and_all_but_keeps_the_rest() {
    let mut limits = Limits::default();
    limits.max_in_flight = 2;
    let mut hand = server(limits);
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 1_000, &[]);
    request(&mut hand, conn, 2, 1_000, &[]);
    request(&mut hand, conn, 3, 1_000, &[1]);
    hand.expect_silence(conn);
    settle(&mut hand, conn, true, &[3]);
    request(&mut hand, conn, 4, 1_000, &[]);
    hand.expect_silence(conn);
    assert_eq!(work(&mut hand).len(), 4);
}

#[test]
fn full_table_refuses_new_calls_and_evicts_none_and_who_goes_on_is_put_out() {
    let mut limits = Limits::default();
    limits.max_in_flight = 2;
    let mut hand = server(limits);
    let (conn, bystander, follower) =
        (requester(&mut hand, 1), requester(&mut hand, 2), subscriber(&mut hand, 3, &["by"]));
    request(&mut hand, conn, 1, 1_000, &[]);
    request(&mut hand, conn, 2, 1_000, &[]);
    hand.expect_silence(conn);
    for id in [3, 4] {
        request(&mut hand, conn, id, 1_000, &[]);
        hand.expect(conn, reply(id, Status::NotExecuted(Refusal::Full), b""));
    }
    assert_eq!(work(&mut hand).len(), 2);
    request(&mut hand, conn, 5, 1_000, &[]);
    hand.expect(
        conn,
        Frame::Bye { code: ByeCode::Protocol, text: "more than twice the limit of 2 calls in flight" },
    );
    expect_undisturbed(&mut hand, bystander, follower);
    assert_eq!(hand.machine.stats().replier.queued_bytes, 0);
}

#[test]
fn argument_and_result_budgets_refuse_instead_of_growing() {
    let mut limits = Limits::default();
    limits.queued_arguments_bytes = 540;
    limits.results_bytes = 50;
    let mut hand = server(limits);
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 1_000, &[]);
    let now = hand.now;
    let ticket = work(&mut hand)[0];
    request(&mut hand, conn, 2, 1_000, &[]);
    hand.expect(conn, reply(2, Status::NotExecuted(Refusal::Full), b""));
    settle(&mut hand, conn, false, &[2]);
    hand.machine.start(now, ticket).unwrap();
    assert!(hand.machine.reply(ticket, Status::Ok, &[0; 51]));
    hand.expect(conn, reply(1, Status::ResultNotKept, b""));
    request(&mut hand, conn, 3, 1_000, &[1]);
    let ticket = work(&mut hand)[0];
    hand.machine.start(now, ticket).unwrap();
    // Of a refusal only the words are lost: it is no lost result, and the call was not executed after all.
    hand.machine.reply(ticket, Status::Failed, &[b'x'; 51]);
    hand.expect(conn, reply(3, Status::Failed, b""));
    request(&mut hand, conn, 4, 1, &[3]);
    let ticket = work(&mut hand)[0];
    hand.machine.start(now, ticket).unwrap();
    hand.machine.reply(ticket, Status::Ok, &[0; 50]);
    hand.expect(conn, reply(4, Status::Ok, &[0; 50]));
    request(&mut hand, conn, 5, 1_000, &[]);
    hand.expect(conn, reply(5, Status::NotExecuted(Refusal::Full), b""));
}

#[test]
fn result_above_the_clients_frame_limit_is_not_kept() {
    let mut hand = server(Limits::default());
    let conn = hand.accept().unwrap();
    hand.deliver(conn, Frame::Hello(Hello::new(Role::Requester, SessionId::default(), 1, 4_096, "")));
    hand.expect(conn, welcome()).expect(conn, heartbeat(0));
    request(&mut hand, conn, 1, 1_000, &[]);
    let ticket = work(&mut hand)[0];
    let now = hand.now;
    hand.machine.start(now, ticket).unwrap();
    hand.machine.reply(ticket, Status::Ok, &[0; 4_096]);
    hand.expect(conn, reply(1, Status::ResultNotKept, b""));
}

#[test]
fn large_reply_is_written_alone_and_not_kept_once_it_is_begun() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    hand.room(conn, 0);
    for id in 1..=3 {
        request(&mut hand, conn, id, 1_000, &[]);
    }
    let now = hand.now;
    for (ticket, len) in work(&mut hand).into_iter().zip([10, 200_000, 20]) {
        hand.machine.start(now, ticket).unwrap();
        hand.machine.reply(ticket, Status::Ok, &vec![7; len]);
    }
    hand.room(conn, 0).room(conn, 40).room(conn, 0).room(conn, 1);
    assert!(hand.machine.stats().replier.result_bytes < 100);
    hand.room(conn, 0).room(conn, 99_999).room(conn, usize::MAX);
    hand.expect(conn, reply(1, Status::Ok, &[7; 10]));
    hand.expect(conn, reply(2, Status::Ok, &vec![7; 200_000]));
    hand.expect(conn, reply(3, Status::Ok, &[7; 20])).expect_silence(conn);
    settle(&mut hand, conn, false, &[1, 2, 3]);
    assert_eq!(hand.machine.stats().replier.result_bytes, 0);
    assert_eq!(hand.machine.rest_bytes, 0);
}

#[test]
fn who_settles_without_reading_does_not_make_anything_grow() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    hand.room(conn, 0);
    let now = hand.now;
    for id in 1..=10_000 {
        request(&mut hand, conn, id, 1_000, &[id - 1]);
        let ticket = work(&mut hand)[0];
        hand.machine.start(now, ticket).unwrap();
        hand.machine.reply(ticket, Status::Ok, b"");
    }
    let record = hand.machine.peers.get(conn).unwrap().record.unwrap();
    let table = hand.machine.records.get_mut(record.0).unwrap().table().expect("a requester");
    let debug = alloc::format!("{table:?}");
    assert!(debug.len() < 2_000, "{} bytes", debug.len());
}

#[test]
fn id_that_was_used_before_ends_the_connection() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 5, 1_000, &[]);
    let ticket = work(&mut hand)[0];
    request(&mut hand, conn, 5, 1_000, &[]);
    hand.expect(conn, Frame::Bye { code: ByeCode::Protocol, text: "request id 5 was used before" });
    assert_eq!(left(&mut hand), [(conn, CloseReason::Protocol(Violation::RequestIdReused { id: 5 }))]);
    let now = hand.now;
    assert_eq!(hand.machine.start(now, ticket), Err(NotStarted::Withdrawn));
    assert!(!hand.machine.reply(ticket, Status::Ok, b""), "whoever answers late is told so");
}

#[test]
fn call_that_was_begun_before_a_loss_is_joined_and_answered_once() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 1_000, &[]);
    request(&mut hand, conn, 2, 1_000, &[]);
    request(&mut hand, conn, 3, 1_000, &[]);
    let tickets = work(&mut hand);
    let now = hand.now;
    hand.machine.start(now, tickets[0]).unwrap();
    hand.machine.start(now, tickets[1]).unwrap();
    hand.machine.reply(tickets[1], Status::Ok, b"two");
    // The answer of 2 may be lost with the connection; 1 ends while nobody is there.
    hand.lose(conn, StreamEnd::Reset);
    assert!(hand.machine.reply(tickets[0], Status::Ok, b"one"));
    let conn = back(&mut hand, Role::Requester, 1, 2);
    hand.expect_silence(conn);
    settle_all_but(&mut hand, conn, &[1, 2, 4]);
    for id in [1, 2, 4] {
        request(&mut hand, conn, id, 1_000, &[]);
    }
    hand.expect(conn, reply(1, Status::Ok, b"one")).expect(conn, reply(2, Status::Ok, b"two"));
    // 4 never came before and runs now; 3 was settled while it was queued and never runs.
    let fresh = work(&mut hand);
    assert_eq!(fresh.len(), 1);
    assert_eq!(hand.machine.start(now, tickets[2]), Err(NotStarted::Withdrawn));
    assert_eq!(hand.machine.start(now, fresh[0]).as_deref(), Ok(&b"args"[..]));
    assert_eq!(hand.machine.start(now, tickets[0]), Err(NotStarted::Started));
    assert_eq!(hand.machine.stats().replier.joined, 2);
}

#[test]
fn queued_call_runs_although_its_connection_is_lost_and_its_answer_waits() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    request(&mut hand, conn, 1, 60_000, &[]);
    let ticket = work(&mut hand)[0];
    hand.lose(conn, StreamEnd::Reset).at(1_000);
    let now = hand.now;
    hand.machine.start(now, ticket).unwrap();
    let conn = back(&mut hand, Role::Requester, 1, 2);
    settle_all_but(&mut hand, conn, &[1]);
    request(&mut hand, conn, 1, 59_000, &[]);
    assert_eq!(work(&mut hand), vec![], "it is joined, not entered again");
    hand.expect_silence(conn);
    hand.machine.reply(ticket, Status::Ok, b"");
    hand.expect(conn, reply(1, Status::Ok, b""));
}

#[test]
fn large_answer_that_was_begun_on_a_lost_connection_is_not_kept() {
    let mut hand = server(Limits::default());
    let conn = requester(&mut hand, 1);
    hand.room(conn, 100);
    request(&mut hand, conn, 1, 1_000, &[]);
    let ticket = work(&mut hand)[0];
    let now = hand.now;
    hand.machine.start(now, ticket).unwrap();
    hand.machine.reply(ticket, Status::Ok, &[0; 100_000]);
    hand.pump();
    hand.lose(conn, StreamEnd::Reset);
    let conn = back(&mut hand, Role::Requester, 1, 2);
    settle_all_but(&mut hand, conn, &[1]);
    request(&mut hand, conn, 1, 1_000, &[]);
    hand.expect(conn, reply(1, Status::ResultNotKept, b""));
    assert_eq!(work(&mut hand), vec![]);
}

#[test]
fn calls_that_run_on_without_their_callers_count_against_no_bound_of_calls() {
    let mut limits = Limits::default();
    limits.max_in_flight = 2;
    let mut hand = server(limits);
    let conn = requester(&mut hand, 1);
    let now = hand.now;
    let mut running = Vec::new();
    for id in 1..=10 {
        request(&mut hand, conn, id, 1_000, &[id - 1]);
        let ticket = work(&mut hand)[0];
        hand.machine.start(now, ticket).unwrap();
        running.push(ticket);
    }
    hand.expect_silence(conn);
    for ticket in running {
        hand.machine.reply(ticket, Status::Ok, b"");
    }
    hand.expect(conn, reply(10, Status::Ok, b"")).expect_silence(conn);
    settle_all_but(&mut hand, conn, &[]);
    assert_eq!(hand.machine.stats().replier.queued_bytes, 0);
}

#[test]
fn not_even_refusals_are_kept_without_bound_and_one_that_is_not_may_come_again() {
    let mut limits = Limits::default();
    limits.queued_arguments_bytes = 32 * 256;
    let mut hand = server(limits.clone());
    let conn = requester(&mut hand, 1);
    hand.room(conn, 0);
    for id in 1..=31 {
        request(&mut hand, conn, id, 1_000, &[]);
    }
    let tickets = work(&mut hand);
    assert_eq!(tickets.len(), 29, "those behind them are refused");
    for id in 32..=60 {
        request(&mut hand, conn, id, 1_000, &[]);
        assert!(hand.machine.stats().replier.queued_bytes <= limits.queued_arguments_bytes);
    }
    assert!(!hand.machine.wants_read(conn), "whoever does not read its refusals is not read from");
    // They are lost on their way; meanwhile there is room, and a later call has taken some of it.
    let second = back(&mut hand, Role::Requester, 1, 2);
    settle_all_but(&mut hand, second, &[40, 61]);
    request(&mut hand, second, 61, 1_000, &[]);
    assert_eq!(work(&mut hand).len(), 1);
    let again = back(&mut hand, Role::Requester, 1, 3);
    request(&mut hand, again, 40, 1_000, &[]);
    hand.expect(again, reply(40, Status::NotExecuted(Refusal::Full), b""));
    assert_eq!(work(&mut hand).len(), 0, "it is behind one that was entered, so it is not run any more");
    request(&mut hand, again, 62, 1_000, &[]);
    assert_eq!(work(&mut hand).len(), 1);
}

#[test]
fn id_of_a_call_that_was_refused_and_is_over_is_no_excuse_to_use_it_again() {
    let mut limits = Limits::default();
    limits.queued_arguments_bytes = 32 * 256;
    let mut hand = server(limits);
    let conn = requester(&mut hand, 1);
    for id in 1..=40 {
        request(&mut hand, conn, id, 1_000, &[]);
    }
    assert_eq!(hand.machine.stats().replier.refused, 11, "nine of them without an entry");
    let second = back(&mut hand, Role::Requester, 1, 2);
    settle_all_but(&mut hand, second, &[38]);
    request(&mut hand, second, 38, 1_000, &[]);
    request(&mut hand, second, 41, 1_000, &[]);
    hand.expect_silence(second);
    let third = back(&mut hand, Role::Requester, 1, 3);
    settle_all_but(&mut hand, third, &[41]);
    left(&mut hand);
    request(&mut hand, third, 35, 1_000, &[]);
    hand.expect(third, Frame::Bye { code: ByeCode::Protocol, text: "request id 35 was used before" });
    assert_eq!(left(&mut hand), [(third, CloseReason::Protocol(Violation::RequestIdReused { id: 35 }))]);
}
