//! What a ledger brings back, and what becomes of one that is torn, foreign, or wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::ledger::{read_ledger, LedgerError, LedgerFile};
use super::*;

/// A directory of one test; dropping it removes it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pulsewire-paper-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn ledger(&self) -> PathBuf {
        self.0.join("ledger.jsonl")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn exchange() -> Exchange {
    Exchange::new(NAME, &[coin(), future()], TERMS).unwrap()
}

/// An exchange out of a ledger, and how many bytes of it were torn.
fn open(path: &Path) -> Result<(Exchange, LedgerFile, u64), LedgerError> {
    let mut exchange = exchange();
    LedgerFile::open(path, false, &mut exchange).map(|(ledger, torn)| (exchange, ledger, torn))
}

/// A day with orders that rest, trade in part, trade with each other, and are cancelled.
fn day() -> Play {
    let mut play = Play::new();
    play.place(&OrderRequest { reference: "a".into(), ..buy(99.5, 2.0) });
    play.tick(&coin_tick(&[(99.0, 3.0)], &[(100.0, 1.5), (100.5, 2.0)]));
    play.place(&OrderRequest { reference: "b".into(), ..buy(100.0, 2.0) });
    play.place(&sell(99.5, 2.3));
    let order = play.place(&sell(120.0, 1.0));
    play.cancel(order).unwrap();
    play.tick(&future_tick(&[], &[(3_500.0, 2.0)]));
    play.place(&future_order(Direction::Long, Offset::Open, 3_500.0, 3.0));
    play.place(&OrderRequest {
        reference: "last".into(),
        ..future_order(Direction::Short, Offset::Close, 3_600.0, 1.0)
    });
    play
}

fn write(path: &Path, play: &Play) {
    let (_, mut ledger, _) = open(path).unwrap();
    for entry in &play.entries {
        ledger.append(entry).unwrap();
    }
}

/// All that an exchange can say of itself.
fn picture(exchange: &Exchange) -> (Vec<OrderData>, Vec<TradeData>, Vec<PositionData>, AccountData) {
    let positions = exchange.positions().map(|position| PositionData { pnl: 0.0, ..position }).collect();
    (exchange.orders().collect(), exchange.trades().collect(), positions, exchange.account())
}

#[test]
fn restarted_exchange_is_where_the_old_one_was() {
    let folder = Folder::new();
    let mut play = day();
    write(&folder.ledger(), &play);
    let (exchange, _ledger, torn) = open(&folder.ledger()).unwrap();
    assert_eq!(torn, 0);
    assert_eq!(picture(&exchange), picture(&play.exchange));
    let mut restarted = Play { exchange, ..Play::new() };
    let again = OrderRequest { reference: "last".into(), ..buy(1.0, 1.0) };
    assert_eq!(restarted.refusal(&again), "rejected: the reference \"last\" is that of order 6");

    // And goes on from there: what rested trades.
    for play in [&mut play, &mut restarted] {
        play.events.clear();
        play.tick(&coin_tick(&[], &[(90.0, 9.0)]));
        play.tick(&future_tick(&[(3_600.0, 1.0)], &[]));
        play.place(&buy(10.0, 1.0));
    }
    assert_eq!(restarted.events, play.events);
    assert_eq!(picture(&restarted.exchange), picture(&play.exchange));
}

#[test]
fn line_that_was_not_written_to_its_end_is_dropped_wherever_it_was_cut() {
    let folder = Folder::new();
    let play = day();
    write(&folder.ledger(), &play);
    let whole = fs::read(folder.ledger()).unwrap();
    let last = 1 + whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    let mut before = exchange();
    for entry in &play.entries[..play.entries.len() - 1] {
        before.apply(entry, &mut Vec::new()).unwrap();
    }
    for len in last..whole.len() {
        fs::write(folder.ledger(), &whole[..len]).unwrap();
        assert_eq!(read_ledger(folder.ledger()).unwrap().torn_bytes, (len - last) as u64);
        let (exchange, mut ledger, torn) = open(&folder.ledger()).unwrap();
        assert_eq!(torn, (len - last) as u64);
        assert_eq!(picture(&exchange), picture(&before), "cut at byte {len}");
        // The order may come again, and its line is as it would have been.
        let mut restarted = Play { exchange, ..Play::new() };
        restarted.tick(&future_tick(&[], &[]));
        let order = future_order(Direction::Short, Offset::Close, 3_600.0, 1.0);
        restarted.place(&OrderRequest { reference: "last".into(), ..order });
        ledger.append(&restarted.entries[0]).unwrap();
        assert!(fs::read(folder.ledger()).unwrap() == whole, "cut at byte {len}");
    }
}

#[test]
fn ledger_cut_within_its_first_line_begins_anew() {
    let folder = Folder::new();
    write(&folder.ledger(), &Play::new());
    let whole = fs::read(folder.ledger()).unwrap();
    for len in 0..whole.len() {
        fs::write(folder.ledger(), &whole[..len]).unwrap();
        assert_eq!(read_ledger(folder.ledger()).unwrap().terms, None);
        assert_eq!(open(&folder.ledger()).unwrap().2, len as u64);
        assert_eq!(fs::read(folder.ledger()).unwrap(), whole);
    }
}

#[test]
fn ledger_says_all_that_was_written_under_the_terms_of_its_first_day() {
    let folder = Folder::new();
    let play = day();
    write(&folder.ledger(), &play);
    let content = read_ledger(folder.ledger()).unwrap();
    assert_eq!((content.terms, &content.entries), (Some(TERMS), &play.entries));

    let richer = Terms { balance: 1e9, ..TERMS };
    let mut exchange = Exchange::new(NAME, &[coin(), future()], richer).unwrap();
    LedgerFile::open(&folder.ledger(), true, &mut exchange).unwrap();
    assert_eq!(exchange.account(), play.account());
}

#[test]
fn ledger_in_use_is_not_opened_twice() {
    let folder = Folder::new();
    let first = open(&folder.ledger()).unwrap();
    assert!(matches!(open(&folder.ledger()), Err(LedgerError::InUse { .. })));
    assert!(read_ledger(folder.ledger()).is_ok(), "reading is free");
    drop(first);
    assert!(open(&folder.ledger()).is_ok());
}

#[test]
fn whole_lines_that_make_no_sense_are_never_dropped() {
    let folder = Folder::new();
    write(&folder.ledger(), &day());
    let text = fs::read_to_string(folder.ledger()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let fault = |lines: &[&str]| {
        fs::write(folder.ledger(), lines.join("\n") + "\n").unwrap();
        let error = open(&folder.ledger()).err().map(|error| format!("{error}")).unwrap();
        error.replace(&format!("{}", folder.ledger().display()), "FILE")
    };
    let with = |at: usize, line| {
        let mut lines = lines.clone();
        lines[at] = line;
        lines
    };
    assert_eq!(
        fault(&with(2, "")),
        "line 3 of the ledger FILE: EOF while parsing a value at line 1 column 0"
    );
    let last = lines.len() - 1;
    let half = &lines[last][..lines[last].len() / 2];
    assert!(fault(&with(last, half)).starts_with(&format!("line {} of the ledger FILE: EOF", last + 1)));
    let newer = lines[0].replace("\"version\":1", "\"version\":2");
    assert_eq!(fault(&with(0, &newer)), "line 1 of the ledger FILE: the format is 2, this version reads 1");
    let mut without = lines.clone();
    without.remove(3);
    assert_eq!(fault(&without), "line 4 of the ledger FILE: entry 4 where 3 is due");
    let foreign = lines[1].replace("COIN", "COAL");
    assert_eq!(fault(&with(1, &foreign)), "line 2 of the ledger FILE: unknown contract \"COAL.LOCAL\"");
    let uneven = lines[1].replace("99.5", "99.7");
    assert_eq!(fault(&with(1, &uneven)), "line 2 of the ledger FILE: order 1 does not fit its contract");
    let again = lines[2].replace("\"b\"", "\"a\"");
    assert_eq!(fault(&with(2, &again)), "line 3 of the ledger FILE: the reference of order 2 is another's");
}

#[test]
fn entries_that_no_exchange_could_have_written_are_refused() {
    use super::super::entry::Fill;
    use super::super::exchange::Inconsistency;
    let number = |play: &Play| play.entries.len() as u64 + 1;
    let entry = |number| LedgerEntry { number, placed: None, fills: Vec::new(), cancelled: Vec::new() };
    let refusal = |change: &dyn Fn(&mut LedgerEntry)| {
        let mut play = day();
        let mut forged = entry(number(&play));
        change(&mut forged);
        play.exchange.apply(&forged, &mut Vec::new()).unwrap_err()
    };
    let fill = |trade, order, volume| Fill { trade, order, price: 100.0, volume, at_ns: None };
    let next = day().trades().len() as u64 + 1;
    assert_eq!(
        refusal(&|entry| entry.cancelled = [4].into()),
        Inconsistency::Order(4),
        "it is cancelled already"
    );
    assert_eq!(refusal(&|entry| entry.cancelled = [99].into()), Inconsistency::Order(99));
    assert_eq!(refusal(&|entry| entry.fills = [fill(next, 0, 1.0)].into()), Inconsistency::Order(0));
    assert_eq!(
        refusal(&|entry| entry.fills = [fill(next, 1, 9.0)].into()),
        Inconsistency::Order(1),
        "it is smaller"
    );
    assert_eq!(refusal(&|entry| entry.fills = [fill(next, 1, 0.15)].into()), Inconsistency::Contract(1));
    let skipped = Inconsistency::Id { found: next + 1, expected: next };
    assert_eq!(refusal(&|entry| entry.fills = [fill(next + 1, 1, 1.0)].into()), skipped);
}

#[test]
fn line_that_could_not_be_written_leaves_nothing_behind() {
    let folder = Folder::new();
    let play = day();
    let (_, mut ledger, _) = open(&folder.ledger()).unwrap();
    ledger.append(&play.entries[0]).unwrap();
    // As a write that failed half way, and could not be undone then, leaves it.
    let mut other = fs::OpenOptions::new().append(true).open(folder.ledger()).unwrap();
    std::io::Write::write_all(&mut other, b"{\"number\":2,\"pla").unwrap();
    ledger.append(&play.entries[1]).unwrap();
    drop(ledger);
    assert_eq!(read_ledger(folder.ledger()).unwrap().entries, play.entries[..2]);
}

#[test]
fn nothing_happens_that_cannot_be_written_down() {
    use super::super::{Ledger, PaperExchange};
    use crate::trader::{EventEngine, Gateway, GatewayContext, SendError, Setting};

    let folder = Folder::new();
    let engine = EventEngine::new();
    let paper = PaperExchange::new(GatewayContext::new(NAME, engine.clone()), [coin()].into());
    let setting = Setting::new().with("ledger", folder.ledger().to_str().unwrap());
    paper.connect(&setting).unwrap();
    let with_ledger = |ledger| {
        let mut open = paper.inner.open.lock().unwrap();
        core::mem::replace(&mut open.as_mut().unwrap().ledger, ledger)
    };
    paper.send_order(&buy(100.0, 1.0)).unwrap();
    let before = engine.stats().put;
    let good = with_ledger(Ledger::File(LedgerFile::broken(&folder.ledger()).unwrap()));
    let request = OrderRequest { reference: "again".into(), ..buy(99.0, 1.0) };
    let refusal = paper.send_order(&request).unwrap_err();
    assert!(matches!(refusal, SendError::Refused(Refusal::NotSent(_))), "{refusal}");
    assert!(paper.cancel_order(&CancelRequest::new("1", "COIN", Venue::Local)).is_err());
    assert!(paper.handle_tick(coin_tick(&[], &[(100.0, 1.0)])).is_err(), "it would trade");
    paper.handle_tick(coin_tick(&[], &[(101.0, 1.0)])).unwrap();
    assert_eq!(engine.stats().put, before, "nothing happened");

    with_ledger(good);
    assert_eq!(paper.send_order(&request), Ok("PAPER.2".into()));
    paper.handle_tick(coin_tick(&[], &[(100.0, 1.0)])).unwrap();
    let entries = read_ledger(folder.ledger()).unwrap().entries;
    assert_eq!(entries.iter().map(|entry| entry.fills.len()).collect::<Vec<_>>(), [0, 0, 1]);
}

#[test]
fn order_whose_line_can_neither_be_kept_nor_cut_off_is_unknown_and_nothing_is_taken_until_it_is() {
    use super::super::ledger::Fault;
    use super::super::{Ledger, PaperExchange};
    use crate::trader::{EventEngine, Gateway, GatewayContext, SendError, Setting};

    let folder = Folder::new();
    let setting = Setting::new().with("ledger", folder.ledger().to_str().unwrap());
    let new = || PaperExchange::new(GatewayContext::new(NAME, EventEngine::new()), [coin()].into());
    let fail = |paper: &PaperExchange, steps: &'static [&'static str]| {
        let mut open = paper.inner.open.lock().unwrap();
        let Ledger::File(file) = &mut open.as_mut().unwrap().ledger else { panic!("it is in a file") };
        file.fail(Fault(steps));
    };
    let named = |reference: &str| OrderRequest { reference: reference.into(), ..buy(100.0, 1.0) };
    let paper = new();
    paper.connect(&setting).unwrap();
    paper.send_order(&named("first")).unwrap();

    // What can be cut off has certainly not happened.
    fail(&paper, &["sync"]);
    assert!(matches!(paper.send_order(&named("cut")), Err(SendError::Refused(Refusal::NotSent(_)))));
    assert_eq!(read_ledger(folder.ledger()).unwrap().entries.len(), 1);
    // What cannot be may have.
    fail(&paper, &["sync", "cut"]);
    assert!(matches!(paper.send_order(&named("kept")), Err(SendError::Unknown(_))));
    assert_eq!(read_ledger(folder.ledger()).unwrap().entries.len(), 2);
    // Nothing is written behind it: that is certain again.
    assert!(matches!(paper.send_order(&named("next")), Err(SendError::Refused(Refusal::NotSent(_)))));
    let cancel = CancelRequest::new("1", "COIN", Venue::Local);
    assert!(matches!(paper.cancel_order(&cancel), Err(SendError::Refused(_))));
    paper.close();
    let again = new();
    again.connect(&setting).unwrap();
    let refusal = format!("{}", again.send_order(&named("kept")).unwrap_err());
    assert_eq!(refusal, "rejected: the reference \"kept\" is that of order 2");

    // A disk that is well again in the same life: the line goes, and the request may come again.
    fail(&again, &["sync", "cut"]);
    assert!(matches!(again.cancel_order(&cancel), Err(SendError::Unknown(_))));
    fail(&again, &[]);
    assert_eq!(again.send_order(&named("next")), Ok("PAPER.3".into()));
    assert_eq!(again.cancel_order(&cancel), Ok(()));
    let entries = read_ledger(folder.ledger()).unwrap().entries;
    assert_eq!(entries.iter().map(|entry| entry.cancelled.len()).collect::<Vec<_>>(), [0, 0, 0, 1]);
}
