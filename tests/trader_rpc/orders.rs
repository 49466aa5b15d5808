//! Orders and quotes through the bridge, and what is known of those whose answer got lost.

use pulsewire::trader::*;

use crate::venue::*;

/// A client that gives an order up soon.
fn hasty(served: &Served) -> Client {
    Client::live_with(served, Setting::new().with("request_timeout_ms", 100))
}

/// Sends an order whose answer comes too late, or never. One that was not even begun in time is sent again: it was
/// certainly not placed.
#[track_caller]
fn send_in_vain(client: &Client, reference: &str) -> OutcomeUnknown {
    loop {
        match client.send(&order("rb2410", reference)) {
            Err(SendError::Unknown(unknown)) => return unknown,
            Err(SendError::Refused(Refusal::NotSent(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// What has become of the only unknown order, once it is not open any more.
fn settlement(client: &Client) -> Settlement {
    let find = || client.rpc.unknown_orders().pop().map(|order| order.settlement);
    eventually("it is settled", || find().is_some_and(|settlement| settlement != Settlement::Open));
    find().unwrap()
}

#[test]
fn orders_and_quotes_go_to_the_gateway_of_their_contract_and_back() {
    let served = Served::new();
    let client = Client::live(&served);
    assert_eq!(client.send(&order("rb2410", "a")), Ok("RPC.CTP.1".into()));
    assert_eq!(client.send(&order("ES", "b")), Ok("RPC.IB.1".into()));
    client.hear_type("eOrder.RPC.IB.1");
    let placed = client.main.oms().order("RPC.IB.1").unwrap();
    assert_eq!((placed.volume, placed.price, &*placed.reference), (2.0, 3_500.0, "b"));
    client.main.cancel_order(&placed.cancel_request(), "RPC").unwrap();
    client.hear("the cancel", |event| {
        matches!(event, Event::Order(order) if order.vt_orderid() == "RPC.IB.1" && order.status == Status::Cancelled)
    });
    assert_eq!(served.main.oms().order("CTP.1").map(|order| order.status), Some(Status::NotTraded));

    let quote = QuoteRequest { reference: "c".into(), ..QuoteRequest::new("cu2410", SHFE, 1.0, 5, 2.0, 6) };
    assert_eq!(client.main.send_quote(&quote, "RPC"), Ok("RPC.CTP.q.1".into()));
    let Event::Quote(quote) = client.hear_type("eQuote.cu2410.SHFE") else { panic!("no quote") };
    assert_eq!((quote.vt_quoteid(), &*quote.reference, quote.ask_volume), ("RPC.CTP.q.1".into(), "c", 6));
    eventually("it is active", || client.main.oms().active_quotes(None).len() == 1);
    client.main.cancel_quote(&quote.cancel_request(), "RPC").unwrap();
    eventually("it is not", || client.main.oms().active_quotes(None).is_empty());
}

#[test]
fn client_sees_its_orders_in_the_order_in_which_it_sent_them() {
    let served = Served::new();
    let client = Client::live(&served);
    for n in 1..=200 {
        assert_eq!(client.send(&order("rb2410", &n.to_string())), Ok(format!("RPC.CTP.{n}")));
    }
    eventually("all of them", || client.main.oms().orders().len() == 200);
    let references: Vec<String> =
        client.main.oms().orders().iter().map(|order| order.reference.clone()).collect();
    assert_eq!(references, (1..=200).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn order_whose_answer_was_late_is_found_and_said_to_be_placed() {
    let served = Served::new();
    let client = hasty(&served);
    served.ctp.before_send.close();
    let outcome = send_in_vain(&client, "grid");
    assert_eq!(outcome.resolution, Resolution::AwaitEvents);
    let open = client.rpc.unknown_orders().pop().unwrap();
    assert_eq!((&*open.reference, &*open.vt_symbol), ("grid", "rb2410.SHFE"));
    assert!(outcome.why.contains(&open.sent_as), "{}", outcome.why);
    served.ctp.before_send.open();
    assert_eq!(settlement(&client), Settlement::Placed("RPC.CTP.1".into()));
    client.hear_log("was placed as RPC.CTP.1");
    let Event::Custom(told) = client.hear_type(&settled_event_type("RPC")) else { panic!("no event") };
    let CustomData::Text(text) = told.data() else { panic!("{told:?}") };
    assert!(text.starts_with(&format!("order {} of rb2410.SHFE", open.sent_as)), "{text}");
    assert_eq!(served.main.oms().order("CTP.1").map(|order| order.reference.clone()), Some(open.sent_as));
    eventually("its event", || client.main.oms().order("RPC.CTP.1").is_some());
}

#[test]
fn order_that_never_had_its_turn_is_said_not_to_be_placed() {
    let served = Served::new();
    let (first, second) = (hasty(&served), hasty(&served));
    served.ctp.before_send.close();
    send_in_vain(&first, "first");
    served.ctp.before_send.wait_until_somebody_waits();
    // It waits behind the first one, and its time is over before its turn.
    send_in_vain(&second, "second");
    served.ctp.before_send.open();
    assert_eq!(settlement(&second), Settlement::NotPlaced);
    assert_eq!(settlement(&first), Settlement::Placed("RPC.CTP.1".into()));
    second.hear_log("was not placed, and will not be");
    assert_eq!(served.ctp.orders.lock().unwrap().len(), 1);
}

#[test]
fn server_in_another_life_denies_nothing_and_an_event_may_still_tell() {
    let served = Served::new();
    let client = hasty(&served);
    served.ctp.before_send.close();
    send_in_vain(&client, "grid");
    served.ctp.before_send.wait_until_somebody_waits();
    served.restart();
    assert_eq!(settlement(&client), Settlement::AskVenue);
    client.hear_log("ask the venue");
    // The old life's function comes through after all.
    eventually("it is live again", || client.rpc.status().snapshots == 2);
    served.ctp.before_send.open();
    client.hear_log("was placed as RPC.CTP.1");
    assert_eq!(settlement(&client), Settlement::Placed("RPC.CTP.1".into()));
}

#[test]
fn order_in_the_snapshot_of_a_restarted_server_is_found_by_its_reference() {
    let served = Served::new();
    let client = hasty(&served);
    served.ctp.before_send.close();
    send_in_vain(&client, "grid");
    served.ctp.before_send.wait_until_somebody_waits();
    let setting = RpcServiceSetting::new(served.address(), "");
    served.service.stop();
    served.ctp.before_send.open();
    eventually("it is placed, and nobody hears", || served.main.oms().order("CTP.1").is_some());
    served.service.start(&setting).unwrap();
    assert_eq!(settlement(&client), Settlement::Placed("RPC.CTP.1".into()));
    client.hear_log("was placed as RPC.CTP.1");
}

#[test]
fn closing_leaves_unknown_orders_to_the_venue() {
    let served = Served::new();
    let client = hasty(&served);
    served.ctp.before_send.close();
    send_in_vain(&client, "grid");
    let sent_as = client.rpc.unknown_orders().pop().unwrap().sent_as;
    client.rpc.close();
    assert_eq!(settlement(&client), Settlement::AskVenue);
    let said = client.hear_log("may be placed: closed before the server could say, ask the venue");
    assert!(said.msg.contains(&sent_as), "{}", said.msg);
    client.hear_type(&settled_event_type("RPC"));
    // Once it is connected again, the venue's report tells.
    served.ctp.before_send.open();
    let setting = Setting::new().with("rep_address", &*client.address);
    client.main.connect(&setting, "RPC").unwrap();
    client.hear_log("was placed as RPC.CTP.1");
    assert_eq!(settlement(&client), Settlement::Placed("RPC.CTP.1".into()));
}

#[test]
fn order_that_was_said_not_to_be_placed_and_is_reported_ends_up_as_the_venue_says() {
    let served = Served::new();
    let (first, second) = (hasty(&served), hasty(&served));
    served.ctp.before_send.close();
    send_in_vain(&first, "first");
    served.ctp.before_send.wait_until_somebody_waits();
    send_in_vain(&second, "second");
    served.ctp.before_send.open();
    assert_eq!(settlement(&second), Settlement::NotPlaced);
    // The venue has it by another way.
    let sent_as = second.rpc.unknown_orders().pop().unwrap().sent_as;
    let order = OrderData { reference: sent_as, ..OrderData::new("CTP", "rb2410", SHFE, "7") };
    served.ctp.context.on_order(order).unwrap();
    second.hear_log("was said not to be placed, and was placed as RPC.CTP.7");
    assert_eq!(settlement(&second), Settlement::Placed("RPC.CTP.7".into()));
}

#[test]
fn report_that_comes_before_its_order_is_given_up_settles_it_whoever_is_asked() {
    let served = Served::new();
    let client = Client::live_with(&served, Setting::new().with("request_timeout_ms", 10_000));
    served.ctp.before_send.close();
    let sent = client.main.clone();
    let sending = std::thread::spawn(move || sent.send_order(&order("rb2410", "grid"), "RPC"));
    served.ctp.before_send.wait_until_somebody_waits();
    let sent_as = served.ctp.asked.lock().unwrap().clone();
    let order = OrderData { reference: sent_as, ..OrderData::new("CTP", "rb2410", SHFE, "7") };
    served.ctp.context.on_order(order).unwrap();
    client.hear_type("eOrder.RPC.CTP.7");
    // The server is gone before it can be asked, and nobody reports it again.
    served.service.stop();
    let Err(SendError::Unknown(_)) = sending.join().unwrap() else { panic!("its answer was lost") };
    assert_eq!(settlement(&client), Settlement::Placed("RPC.CTP.7".into()));
    served.ctp.before_send.open();
}
