//! What the macros write for inputs and outputs, as the graph shows it.

use storm::prelude::*;

#[tuple]
struct Order {
    id: u64,
    shop: Text,
}

#[tuple]
struct Payment {
    order: u64,
    cents: u64,
}

#[tuple]
struct Page {
    url: Text,
    body: Bytes,
}

struct Source<T>(std::marker::PhantomData<fn() -> T>);

impl<T: storm::tuple::Tuple + Output> Spout for Source<T> {
    type Output = T;
    type MessageId = ();

    fn next(&mut self, _: &mut Roots<T, ()>) -> Result<Next> {
        Ok(Next::Done)
    }
}

fn source<T>() -> Source<T> {
    Source(std::marker::PhantomData)
}

#[derive(Input)]
enum Event {
    Order(Order),
    Payment(Payment),
}

#[derive(Output)]
struct JoinOut {
    paid: Port<Order>,
    notes: Direct<Payment>,
}

struct Join;

impl Bolt for Join {
    type Input = Event;
    type Output = JoinOut;

    fn execute(&mut self, event: Event, out: &mut Emitter<JoinOut>) -> Result {
        match event {
            Event::Order(order) => out.paid.emit(order),
            Event::Payment(payment) => out.notes.emit_to(TaskId(1), payment)?,
        }
        Ok(())
    }
}

struct Keep;

impl Bolt for Keep {
    type Input = Shared<Page>;
    type Output = Shared<Page>;

    fn execute(&mut self, page: Shared<Page>, out: &mut Emitter<Shared<Page>>) -> Result {
        out.emit(page);
        Ok(())
    }
}

struct Print;

impl Bolt for Print {
    type Input = Values;
    type Output = ();

    fn execute(&mut self, _: Values, _: &mut Emitter<()>) -> Result {
        Ok(())
    }
}

#[test]
fn an_enum_takes_several_streams_and_a_struct_of_ports_emits_several() {
    let mut topology = Topology::builder("join");
    let orders = topology.spout("orders", source::<Order>).add();
    let payments = topology.spout("payments", source::<Payment>).add();
    let join = topology.bolt("join", || Join).fields(&orders, Order::ID).fields(&payments, Payment::ORDER).add();
    topology.bolt("print", || Print).fields(&join.paid, (Order::SHOP, Order::ID)).direct(&join.notes).add();
    let topology = topology.build().unwrap();

    let join = topology.components().iter().find(|component| component.name() == "join").unwrap();
    let streams: Vec<_> = join.streams().iter().map(|s| (s.name.as_str(), s.direct, s.tuple.as_str())).collect();
    assert_eq!(streams, [("paid", false, "Order"), ("notes", true, "Payment")]);
    assert_eq!(join.streams()[0].fields, ["id", "shop"]);
}

#[test]
fn a_shared_tuple_is_taken_from_its_own_stream_and_from_that_of_its_tuple() {
    let mut topology = Topology::builder("pages");
    let pages = topology.spout("pages", source::<Page>).add();
    let shared = topology.bolt("share", || Keep).shuffle(&pages).add();
    topology.bolt("keep", || Keep).all(&shared).add();
    topology.bolt("print", || Print).all(&shared).add();
    let topology = topology.build().unwrap();
    let share = topology.components().iter().find(|component| component.name() == "share").unwrap();
    assert_eq!((share.streams()[0].name.as_str(), share.streams()[0].tuple.as_str()), ("default", "Page"));
}
