//! The checked graph: every mistake told at once, in the author's names; and `describe`'s JSON.

use std::time::Duration;

use storm::grouping::CustomGrouping;
use storm::prelude::*;

#[tuple]
struct Order {
    id: u64,
    shop: Text,
}

#[tuple]
struct Payment {
    order: u64,
}

/// Has a field without a key.
#[tuple]
struct Parcel {
    id: u64,
    #[tuple(serde)]
    route: std::collections::BTreeMap<String, u8>,
}

#[derive(Output)]
struct Many {
    orders: Port<Order>,
    parcels: Port<Parcel>,
    notes: Direct<Payment>,
}

struct Emits<O>(std::marker::PhantomData<fn() -> O>);

fn emits<O>() -> Emits<O> {
    Emits(std::marker::PhantomData)
}

impl<O: Output> Spout for Emits<O> {
    type Output = O;
    type MessageId = ();

    fn next(&mut self, _: &mut Roots<'_, O, ()>) -> Result<Next> {
        Ok(Next::Done)
    }
}

struct Takes<I, O>(std::marker::PhantomData<fn(I) -> O>);

fn takes<I, O>() -> Takes<I, O> {
    Takes(std::marker::PhantomData)
}

impl<I: Input, O: Output> Bolt for Takes<I, O> {
    type Input = I;
    type Output = O;

    fn execute(&mut self, _: I, _: &mut Emitter<O, I::Mode>) -> Result {
        Ok(())
    }
}

struct Waits;

impl AsyncBolt for Waits {
    type Input = Order;
    type Output = ();

    async fn execute(&self, _: Order, _: &mut Emitter<()>) -> Result {
        Ok(())
    }
}

struct First;

impl<T: 'static> CustomGrouping<T> for First {
    fn choose(&mut self, _: &T, tasks: &[TaskId], chosen: &mut Vec<TaskId>) {
        chosen.push(tasks[0]);
    }
}

/// The mistakes of what `write` writes beside a spout and a bolt that are well.
fn mistakes(write: impl FnOnce(&mut TopologyBuilder, &Stream<Order>)) -> Vec<String> {
    let mut topology = Topology::builder("shop");
    let orders = topology.spout("orders", emits::<Order>).add();
    topology.bolt("keep", takes::<Order, Order>).shuffle(&orders).add();
    write(&mut topology, &orders);
    topology.build().err().map_or_else(Vec::new, |error| error.problems().to_vec())
}

/// The only mistake.
fn mistake(write: impl FnOnce(&mut TopologyBuilder, &Stream<Order>)) -> String {
    let all = mistakes(write);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].clone()
}

#[test]
fn names_are_checked() {
    let named = |name: &str| mistake(|topology, _| drop(topology.spout(name, emits::<Order>).add()));
    assert_eq!(named(""), "the name of spout `` is empty");
    let long = "x".repeat(97);
    assert_eq!(named(&long), format!("the name of spout `{long}` is longer than 96 characters"));
    assert_eq!(
        named("a b"),
        "the name of spout `a b` has the character ' '; letters, digits, `.`, `_` and `-` are allowed"
    );
    assert_eq!(named(".a"), "the name of spout `.a` begins with `.` or `-`");
    assert_eq!(named("__a"), "the name of spout `__a` begins with `__`, which is kept for the system");
    assert_eq!(named("a..b"), "the name of spout `a..b` has `..` in it");
    assert_eq!(named("keep"), "two components have the name `keep`");
    let mut topology = Topology::builder("a/b");
    topology.spout("orders", emits::<Order>).add();
    assert_eq!(
        topology.build().err().unwrap().to_string(),
        "topology `a/b` has a mistake: the topology's name `a/b` has the character '/'; letters, digits, `.`, `_` and `-` are allowed"
    );
}

#[test]
fn numbers_are_checked() {
    let said = mistake(|topology, _| drop(topology.spout("s", emits::<Order>).parallelism(0).add()));
    assert_eq!(said, "spout `s` has parallelism 0; give at least 1");
    let said = mistake(|topology, orders| topology.bolt("b", takes::<Order, ()>).tasks(0).shuffle(orders).add());
    assert_eq!(said, "bolt `b` has 0 tasks; give at least 1");
    let said = mistake(|topology, orders| {
        topology.bolt("b", takes::<Order, ()>).parallelism(3).tasks(2).shuffle(orders).add();
    });
    assert_eq!(said, "bolt `b` has 3 executors for 2 tasks; an executor runs at least one task");
    let said = mistake(|topology, orders| {
        topology.bolt("b", takes::<Order, ()>).tick_every(Duration::from_micros(9)).shuffle(orders).add();
    });
    assert_eq!(said, "bolt `b` ticks every 9µs; give at least one millisecond");
    let said = mistake(|topology, orders| topology.async_bolt("b", 0, || Waits).shuffle(orders).add());
    assert_eq!(said, "bolt `b` may have 0 calls in flight; give at least 1");
}

#[test]
fn subscriptions_are_checked() {
    let said = mistake(|topology, _| topology.bolt("b", takes::<Order, ()>).add());
    assert_eq!(
        said,
        "bolt `b` subscribes to no stream, so it would never get a tuple; chain a grouping, as `.shuffle(&stream)`"
    );
    let said = mistake(|topology, orders| topology.bolt("b", takes::<Order, ()>).shuffle(orders).all(orders).add());
    assert_eq!(said, "bolt `b` subscribes twice to stream `default` of `orders`");
    let by_name = |component: &str, grouping: Grouping| {
        let component = component.to_owned();
        mistake(move |topology, _| topology.bolt("b", takes::<Values, ()>).subscribe(&component, grouping).add())
    };
    assert_eq!(
        by_name("ordres", Grouping::Shuffle),
        "bolt `b` subscribes to `ordres`, which is not in the topology; did you mean `orders`?"
    );
    assert_eq!(
        by_name("elsewhere", Grouping::Shuffle),
        "bolt `b` subscribes to `elsewhere`, which is not in the topology; its components are `orders`, `keep`, `b`"
    );
    let said = mistake(|topology, _| {
        topology.bolt("b", takes::<Values, ()>).subscribe_stream("orders", "defualt", Grouping::Shuffle).add();
    });
    assert_eq!(
        said,
        "bolt `b` subscribes to stream `defualt` of `orders`, which it does not emit; its streams are `default`; did you mean `default`?"
    );
    let said = mistake(|topology, _| {
        let wrong = topology.stream::<Payment>("orders", "default");
        topology.bolt("b", takes::<Payment, ()>).shuffle(&wrong).add();
    });
    assert_eq!(said, "bolt `b` takes stream `default` of `orders` as one of `Payment`, but it carries `Order`");
    assert_eq!(
        by_name("orders", Grouping::fields(["shpo"])),
        "bolt `b` groups stream `default` of `orders` by field `shpo`, which it does not have; its fields are `id`, `shop`; did you mean `shop`?"
    );
    let said = mistake(|topology, _| {
        topology.spout("v", emits::<Values>).add();
        topology.bolt("b", takes::<Values, ()>).subscribe("v", Grouping::partial_key(["a"])).add();
    });
    assert_eq!(
        said,
        "bolt `b` groups stream `default` of `v` by field `a`, but the stream's fields have no names; name them with `.output_fields([…])` where `v` is added"
    );
    let said = mistake(|topology, _| {
        let many = topology.spout("m", emits::<Many>).add();
        topology.bolt("b", takes::<Values, ()>).subscribe_stream("m", "parcels", Grouping::fields(["route"])).add();
        let _ = many;
    });
    assert_eq!(
        said,
        "bolt `b` groups stream `parcels` of `m` by field `route`, which is #[tuple(serde)] and has no key; group by another, or by a computed key with `.fields_with(…)`"
    );
    assert_eq!(
        by_name("orders", Grouping::Direct),
        "bolt `b` subscribes by direct grouping to stream `default` of `orders`, whose emitter names no task; make it a `Direct<…>` port, or use another grouping"
    );
    let said = mistake(|topology, _| {
        topology.spout("m", emits::<Many>).add();
        topology.bolt("b", takes::<Values, ()>).subscribe_stream("m", "notes", Grouping::All).add();
    });
    assert_eq!(
        said,
        "bolt `b` subscribes to the direct stream `notes` of `m` by all grouping; only `.direct(…)` fits, as its emitter names the task"
    );
    assert_eq!(
        by_name("orders", Grouping::Custom("mine".to_owned())),
        "bolt `b` subscribes to `orders` by names with a custom grouping; use `.custom(&stream, …)`"
    );
}

#[test]
fn the_graph_as_a_whole_is_checked() {
    assert_eq!(
        Topology::builder("empty").build().err().unwrap().problems(),
        ["it has no spout, so no tuple would ever flow; add one with `.spout(name, …)`"]
    );
    let said = mistakes(|topology, _| {
        let (one, two) = (topology.stream::<Order>("one", "default"), topology.stream::<Order>("two", "default"));
        topology.bolt("one", takes::<Order, Order>).shuffle(&two).add();
        topology.bolt("two", takes::<Order, Order>).shuffle(&one).add();
    });
    let unreached = |bolt: &str| {
        format!(
            "no spout leads to bolt `{bolt}`, so it would never get a tuple; subscribe it, or what it subscribes to, to a spout's stream"
        )
    };
    assert_eq!(said, [unreached("one"), unreached("two")]);
    let said = mistake(|topology, _| drop(topology.spout("s", emits::<Order>).output_fields(["a"]).add()));
    assert_eq!(
        said,
        "`output_fields` of `s`: only a component with one stream of dynamic `Values` names its fields; those of a #[tuple] are the struct's"
    );
    let said = mistake(|topology, _| drop(topology.spout("s", emits::<Values>).output_fields(["a", "b", "a"]).add()));
    assert_eq!(said, "stream `default` of spout `s` has two fields with the name `a`");
    let said = mistake(|topology, _| {
        topology.config("topology.wrokers", 2);
    });
    assert!(said.contains("topology.wrokers") && said.contains("topology.workers"), "{said}");
    let said = mistake(|topology, _| drop(topology.spout("s", emits::<Order>).max_pending(0).add()));
    assert!(said.contains("topology.max.spout.pending"), "{said}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mut topology = Topology::builder("shop");
    topology.config("topology.workers", "many");
    let orders = topology.spout("or ders", emits::<Order>).parallelism(0).add();
    topology.bolt("b", takes::<Order, ()>).tasks(0).shuffle(&orders).shuffle(&orders).add();
    topology.bolt("b", takes::<Values, ()>).subscribe("nobody", Grouping::fields(["x"])).add();
    let error = topology.build().err().unwrap();
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "topology `shop` has 7 mistakes:");
    assert!(lines[1].contains("topology.workers"), "{}", lines[1]);
    let expected = [
        "  - the name of spout `or ders` has the character ' '; letters, digits, `.`, `_` and `-` are allowed",
        "  - two components have the name `b`",
        "  - spout `or ders` has parallelism 0; give at least 1",
        "  - bolt `b` has 0 tasks; give at least 1",
        "  - bolt `b` subscribes twice to stream `default` of `or ders`",
        "  - bolt `b` subscribes to `nobody`, which is not in the topology; its components are `or ders`, `b`, `b`",
    ];
    assert_eq!(lines[2..], expected);
}

#[test]
fn a_graph_is_described_as_json() {
    let mut topology = Topology::builder("shop");
    topology.config("topology.workers", 3).config("my.limit", 12);
    let many = topology.spout("many", emits::<Many>).max_pending(50).add();
    let back = topology.stream::<Order>("keep", "default");
    let keep = topology.bolt("keep", takes::<Order, Order>).parallelism(2).tasks(5);
    let keep = keep.fields(&many.orders, (Order::SHOP, Order::ID)).shuffle(&back).add();
    topology.bolt("all", takes::<Order, ()>).all(&keep).custom(&many.orders, || First).add();
    topology.bolt("told", takes::<Payment, Values>).direct(&many.notes).output_fields(["what", "when"]).add();
    let named = topology.bolt("named", takes::<Values, ()>);
    named.subscribe("told", Grouping::partial_key(["when"])).config("topology.tick.tuple.freq.secs", 0.5).add();
    let graph = topology.build().unwrap().graph();
    let expected = r#"{
  "format": 1,
  "name": "shop",
  "config": {
    "my.limit": 12,
    "topology.workers": 3
  },
  "components": [
    {
      "name": "all",
      "kind": "bolt",
      "executors": 1,
      "first_task": 1,
      "tasks": 1,
      "streams": [],
      "inputs": [
        {
          "component": "keep",
          "stream": "default",
          "grouping": {
            "type": "all"
          }
        },
        {
          "component": "many",
          "stream": "orders",
          "grouping": {
            "type": "custom",
            "fields": "First"
          }
        }
      ],
      "config": {}
    },
    {
      "name": "keep",
      "kind": "bolt",
      "executors": 2,
      "first_task": 2,
      "tasks": 5,
      "streams": [
        {
          "name": "default",
          "fields": [
            "id",
            "shop"
          ],
          "direct": false,
          "tuple": "Order"
        }
      ],
      "inputs": [
        {
          "component": "many",
          "stream": "orders",
          "grouping": {
            "type": "fields",
            "fields": [
              "shop",
              "id"
            ]
          }
        },
        {
          "component": "keep",
          "stream": "default",
          "grouping": {
            "type": "shuffle"
          }
        }
      ],
      "config": {}
    },
    {
      "name": "many",
      "kind": "spout",
      "executors": 1,
      "first_task": 7,
      "tasks": 1,
      "streams": [
        {
          "name": "orders",
          "fields": [
            "id",
            "shop"
          ],
          "direct": false,
          "tuple": "Order"
        },
        {
          "name": "parcels",
          "fields": [
            "id",
            "route"
          ],
          "direct": false,
          "tuple": "Parcel"
        },
        {
          "name": "notes",
          "fields": [
            "order"
          ],
          "direct": true,
          "tuple": "Payment"
        }
      ],
      "inputs": [],
      "config": {
        "topology.max.spout.pending": 50
      }
    },
    {
      "name": "named",
      "kind": "bolt",
      "executors": 1,
      "first_task": 8,
      "tasks": 1,
      "streams": [],
      "inputs": [
        {
          "component": "told",
          "stream": "default",
          "grouping": {
            "type": "partial-key",
            "fields": [
              "when"
            ]
          }
        }
      ],
      "config": {
        "topology.tick.tuple.freq.secs": 0.5
      }
    },
    {
      "name": "told",
      "kind": "bolt",
      "executors": 1,
      "first_task": 9,
      "tasks": 1,
      "streams": [
        {
          "name": "default",
          "fields": [
            "what",
            "when"
          ],
          "direct": false,
          "tuple": "Values"
        }
      ],
      "inputs": [
        {
          "component": "many",
          "stream": "notes",
          "grouping": {
            "type": "direct"
          }
        }
      ],
      "config": {}
    }
  ]
}"#;
    assert_eq!(serde_json::to_string_pretty(&graph).unwrap(), expected);
    assert_eq!(serde_json::from_str::<storm::topology::Graph>(expected).unwrap(), graph);
}
