use super::*;
use crate::pattern::ConnId;
use crate::wire::Ids;

const NOW: Instant = Instant::ZERO;

fn request(id: u64) -> Request<'static> {
    Request { id, time_left_ms: 1_000, function: "f", settled: Ids::default() }
}

/// Many calls, all refused or all answered, and all settled.
fn come_and_go(replier: &mut Replier, table: &mut CallTable, is_full: bool, calls: u64) {
    let record = RecordId(ConnId::new(0, 1));
    let first = table.last_id + 1;
    let mut ids = Vec::new();
    for id in first..first + calls {
        replier.is_behind = is_full;
        let work = replier
            .handle_request(NOW, table, record, request(id), Incoming::Borrowed(&[]), u32::MAX)
            .expect("no violation");
        assert_eq!(work.is_none(), is_full);
        if work.is_some() {
            replier.start(NOW, table, id, u32::MAX).expect("it has not expired");
            assert!(replier.reply(table, id, Status::Ok, Payload::NONE, u32::MAX));
        }
        Ids::push(&mut ids, id);
    }
    let ids = Ids::from_bytes(&ids).expect("whole ids");
    replier.handle_settle(table, Settle { all_but: false, ids });
    assert!(table.is_empty());
}

#[test]
fn sessions_whose_calls_are_over_keep_no_more_room_than_all_may_together() {
    for is_full in [true, false] {
        let limits = Limits { queued_arguments_bytes: 4 * 1024 * 1024, ..Limits::default() };
        let mut replier = Replier::new(&limits);
        let mut tables: Vec<CallTable> = (0..100).map(|_| CallTable::new()).collect();
        for table in &mut tables {
            come_and_go(&mut replier, table, is_full, 1_000);
        }
        let held: u64 = tables.iter().map(|table| u64::from(table.memory())).sum();
        assert!(held <= Replier::room_bytes(&limits), "{held} bytes for nothing");
        assert_eq!(replier.tables, held);
        tables.iter_mut().for_each(|table| replier.leave(table));
        assert_eq!((replier.tables, replier.stats.queued_bytes), (0, 0));
    }
}

#[test]
fn many_sessions_of_a_few_calls_each_leave_the_room_to_those_of_many() {
    let mut replier = Replier::new(&Limits::default());
    let mut tables: Vec<CallTable> = (0..10_000).map(|_| CallTable::new()).collect();
    for table in &mut tables {
        come_and_go(&mut replier, table, false, 4);
    }
    assert_eq!(replier.tables, 0);
    come_and_go(&mut replier, &mut tables[0], false, 64);
    let kept = tables[0].memory();
    come_and_go(&mut replier, &mut tables[0], false, 64);
    assert!(kept > 0);
    assert_eq!(tables[0].memory(), kept, "it was there for those that came");
}

#[test]
fn large_tables_that_are_in_use_do_not_take_the_room_of_those_who_need_little() {
    let limits = Limits::default();
    let mut replier = Replier::new(&limits);
    let mut large: Vec<CallTable> = (0..6).map(|_| CallTable::new()).collect();
    for table in &mut large {
        let mut over = Vec::new();
        for id in 1..=1_000 {
            let record = RecordId(ConnId::new(0, 1));
            replier
                .handle_request(NOW, table, record, request(id), Incoming::Borrowed(&[]), u32::MAX)
                .expect("no violation");
            if id > 1 {
                Ids::push(&mut over, id);
            }
        }
        let ids = Ids::from_bytes(&over).expect("whole ids");
        replier.handle_settle(table, Settle { all_but: false, ids });
    }
    assert!(replier.tables > Replier::room_bytes(&limits) / 2, "{} bytes", replier.tables);
    let mut table = CallTable::new();
    (0..4).for_each(|_| come_and_go(&mut replier, &mut table, false, 64));
    let kept = table.memory();
    assert!(kept > 0, "it has let go of what the next 64 calls need");
    come_and_go(&mut replier, &mut table, false, 64);
    assert_eq!(table.memory(), kept);
}
