//! Canonical bytes of keys, their hashes and groups: fixed for ever.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use storm::tuple::{Bytes, Field, FieldTokens, Key, KeyBytes, KeyGroup, Text, Tuple, Value, Values, tuple};
use storm::values;

fn bytes_of(key: &(impl Key + ?Sized)) -> Vec<u8> {
    let mut bytes = KeyBytes::default();
    key.write_key(&mut bytes);
    bytes.as_bytes().to_vec()
}

fn hash_of(key: &(impl Key + ?Sized)) -> u64 {
    let mut bytes = KeyBytes::default();
    key.write_key(&mut bytes);
    let hash = bytes.hash();
    // With whatever the builder held before.
    assert_eq!(key.hash_key(&mut bytes), hash, "the short way to the hash agrees with the way by the bytes");
    hash
}

#[test]
fn canonical_bytes_are_fixed() {
    assert_eq!(bytes_of(&None::<u8>), [0]);
    assert_eq!(bytes_of(&false), [1]);
    assert_eq!(bytes_of(&true), [2]);
    assert_eq!(bytes_of(&-2i8), [3, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let positive = [4, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(bytes_of(&(1u64 << 63)), positive);
    assert_eq!(bytes_of(&(1i128 << 63)), positive);
    let negative = [5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 255];
    assert_eq!(bytes_of(&(i128::from(i64::MIN) - 1)), negative);
    assert_eq!(bytes_of(&1.0f64), [6, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    assert_eq!(bytes_of("ab"), [7, 2, b'a', b'b']);
    assert_eq!(bytes_of(&Bytes::from_static(b"ab")), [8, 2, b'a', b'b']);
    assert_eq!(bytes_of(&[true, false]), [9, 2, 2, 1]);
    assert_eq!(bytes_of(&("a", None::<u8>)), [9, 2, 7, 1, b'a', 0]);
    assert_eq!(bytes_of(&HashSet::from(["b", "a"])), [9, 2, 7, 1, b'a', 7, 1, b'b']);
    assert_eq!(bytes_of(&HashMap::from([("bb", true), ("c", false)])), [10, 2, 7, 1, b'c', 1, 7, 2, b'b', b'b', 2]);
    assert_eq!(bytes_of(&Duration::from_micros(1)), bytes_of(&1000));
    assert_eq!(bytes_of(&(SystemTime::UNIX_EPOCH - Duration::from_nanos(5))), bytes_of(&-5));
}

#[test]
fn what_is_the_same_key_has_the_same_bytes() {
    assert_eq!(bytes_of(&7u8), bytes_of(&7i128));
    assert_eq!(bytes_of(&7u16), bytes_of(&7usize));
    assert_eq!(bytes_of(&-7i32), bytes_of(&-7isize));
    assert_eq!(bytes_of(&u64::MAX), bytes_of(&u128::from(u64::MAX)));
    assert_eq!(bytes_of(&0.1f32), bytes_of(&f64::from(0.1f32)));
    assert_eq!(bytes_of(&-0.0f64), bytes_of(&0.0f32));
    assert_eq!(bytes_of(&f64::NAN), bytes_of(&-f32::NAN));
    assert_eq!(bytes_of(&f64::from_bits(0x7ff0_0000_0000_0001)), bytes_of(&f64::NAN));
    assert_eq!(bytes_of("a"), bytes_of(&'a'));
    assert_eq!(bytes_of(&Text::new("a")), bytes_of(&String::from("a")));
    assert_eq!(bytes_of(&[1u8, 2]), bytes_of(&Bytes::from_static(&[1, 2])));
    assert_eq!(bytes_of(&Some(&Box::new("a"))), bytes_of("a"));
    assert_eq!(bytes_of(&BTreeMap::from([(7i64, 1u8), (2, 2)])), bytes_of(&HashMap::from([(2u8, 2i32), (7, 1)])));
}

#[test]
fn what_is_another_key_has_other_bytes() {
    assert_ne!(bytes_of(&1.0f64), bytes_of(&1));
    assert_ne!(bytes_of("a"), bytes_of(&Bytes::from_static(b"a")));
    assert_ne!(bytes_of("1"), bytes_of(&1));
    assert_ne!(bytes_of(&("ab", "c")), bytes_of(&("a", "bc")));
    assert_ne!(bytes_of(&["a"]), bytes_of("a"));
    assert_ne!(bytes_of(&false), bytes_of(&None::<bool>));
}

#[test]
fn hashes_are_fixed() {
    // Computed by another implementation of XXH3 over the bytes that the module's documentation gives.
    assert_eq!(KeyBytes::default().hash(), 0x2d06_8005_38d3_94c2);
    assert_eq!(hash_of(&None::<u8>), 0xc44b_dff4_074e_ecdb);
    assert_eq!(hash_of("storm"), 0x8a5e_0a95_70a5_cbef);
    assert_eq!(hash_of(&42u64), 0xd5a6_f8c8_38df_27c8);
    assert_eq!(hash_of(&1.0f64), 0x620b_ae67_6549_7e01);
    assert_eq!(hash_of(&Bytes::from_static(b"ab")), 0xa873_719c_24d5_735c);
    assert_eq!(hash_of(&"x".repeat(1000)), 0xc0a4_877b_962c_ba82);
    assert_eq!(hash_of(&("storm", 42)), 0x46d6_51e5_ffc7_d7cb);
    let group = |key: &str| KeyGroup::of_hash(hash_of(key)).number();
    assert_eq!(group("storm"), 19_439);
}

#[test]
fn groups_are_spread_over_tasks_in_ranges() {
    let index = |group: u64, tasks| KeyGroup::of_hash(group).task_index(tasks);
    assert_eq!(KeyGroup::of_hash(32_768 * 5 + 3).number(), 3);
    assert_eq!([0, 8191, 8192, 16_383, 32_767].map(|group| index(group, 4)), [0, 0, 1, 1, 3]);
    assert_eq!([0, 10_922, 10_923, 32_767].map(|group| index(group, 3)), [0, 0, 1, 2]);
    assert_eq!(index(32_767, 1), 0);
    assert_eq!(index(32_767, 100_000), 99_996);
    assert_eq!(index(5, 0), 0);
}

#[tuple]
#[derive(Debug)]
struct Order {
    shop: Text,
    id: u64,
    rate: f32,
    parts: Vec<u8>,
    within: Inner,
}

#[tuple]
#[derive(Debug)]
struct Inner {
    long_name: i8,
    b: bool,
    ab: (Text, Option<u32>),
}

fn order() -> impl Strategy<Value = Order> {
    let inner = any::<(i8, bool, String, Option<u32>)>();
    (any::<(String, u64, f32, Vec<u8>)>(), inner).prop_map(|((shop, id, rate, parts), inner)| Order {
        shop: shop.into(),
        id,
        rate,
        parts,
        within: Inner { long_name: inner.0, b: inner.1, ab: (inner.2.into(), inner.3) },
    })
}

fn by<T>(tokens: impl FieldTokens<T>, tuple: &T) -> Vec<u8> {
    let mut key = KeyBytes::default();
    tokens.write_key(tuple, &mut key);
    assert_eq!(tokens.hash_key(tuple, &mut KeyBytes::default()), key.hash());
    key.as_bytes().to_vec()
}

fn by_index(fields: &[usize], tuple: &impl Tuple) -> Vec<u8> {
    let mut key = KeyBytes::default();
    tuple.write_key_of(fields, &mut key);
    assert_eq!(tuple.hash_key_of(fields, &mut KeyBytes::default()), key.hash());
    key.as_bytes().to_vec()
}

proptest! {
    #[test]
    fn typed_and_dynamic_keys_agree(order in order()) {
        let values: Values = order.clone().into_values();
        prop_assert_eq!(by(Order::SHOP, &order), by_index(&[0], &values));
        prop_assert_eq!(by(Order::SHOP, &order), bytes_of(&order.shop));
        prop_assert_eq!(by(Order::PARTS, &order), by_index(&[3], &values));
        prop_assert_eq!(by(Order::WITHIN, &order), by_index(&[4], &values));
        prop_assert_eq!(by(Order::WITHIN, &order), bytes_of(&values[4]));
        let pair = by((Order::ID, Order::SHOP), &order);
        prop_assert_eq!(&pair, &by_index(&[1, 0], &values));
        prop_assert_eq!(&pair, &bytes_of(&(order.id, &order.shop)));
        prop_assert_eq!(&pair, &bytes_of(&vec![values[1].clone(), values[0].clone()]));
        let four = by((Order::ID, Order::SHOP, Order::RATE, Order::PARTS), &order);
        prop_assert_eq!(four, by_index(&[1, 0, 2, 3], &values));
    }

    #[test]
    fn the_short_ways_to_a_hash_agree_with_the_bytes(
        ints in any::<(i8, i16, i32, i64, i128)>(), uints in any::<(u8, u16, u32, u64, u128)>(),
        others in any::<(bool, f32, f64, char, String, Vec<u8>, Option<u64>)>(), long in "[a-z]{100,300}",
    ) {
        hash_of(&ints.0); hash_of(&ints.1); hash_of(&ints.2); hash_of(&ints.3); hash_of(&ints.4);
        hash_of(&uints.0); hash_of(&uints.1); hash_of(&uints.2); hash_of(&uints.3); hash_of(&uints.4);
        hash_of(&(uints.3 as usize)); hash_of(&(ints.3 as isize));
        hash_of(&others.0); hash_of(&others.1); hash_of(&others.2); hash_of(&others.3); hash_of(&others.4);
        hash_of(&others.5); hash_of(&Bytes::from(others.5.clone())); hash_of(&others.6);
        hash_of(&Text::new(&long)); hash_of(&Value::from(long.as_str())); hash_of(&Bytes::from(long.clone()));
        hash_of(&Value::from(ints.4)); hash_of(&Value::from(others.2)); hash_of(&Value::from(others.5));
        prop_assert_eq!(hash_of(&uints.3), hash_of(&Value::from(uints.3)));
        prop_assert_eq!(hash_of(&Some(&long)), hash_of(&Value::from(long.as_str())));
    }

    #[test]
    fn keys_agree_with_their_values(
        ints in any::<(i128, u128, u64, i16)>(), text in any::<String>(), map in any::<HashMap<String, i64>>(),
    ) {
        prop_assert_eq!(bytes_of(&ints), bytes_of(&ints.into_value()));
        prop_assert_eq!(bytes_of(&text), bytes_of(&Value::from(text.as_str())));
        prop_assert_eq!(bytes_of(&map), bytes_of(&map.clone().into_value()));
        let read = serde_json::from_str(&map.clone().into_value().to_json().to_string()).unwrap();
        prop_assert_eq!(bytes_of(&map), bytes_of(&Value::from_json(read)));
    }

    #[test]
    fn keys_are_never_prefixes_of_each_other(a in any::<(Option<String>, i64)>(), b in any::<(Option<String>, i64)>()) {
        let (left, right) = (bytes_of(&a.0), bytes_of(&b.0));
        prop_assert_eq!(left == right, a.0 == b.0);
        prop_assert!(left == right || !left.starts_with(&right));
        prop_assert_eq!(bytes_of(&a) == bytes_of(&b), a == b);
    }
}

#[test]
fn tokens_have_names() {
    assert_eq!(FieldTokens::<Order>::names(&Order::SHOP), ["shop"]);
    assert_eq!((Order::SHOP, Order::ID).names(), ["shop", "id"]);
    assert_eq!(format!("{:?}", Order::SHOP), "field `shop`");
}

#[test]
fn a_missing_dynamic_field_is_null() {
    assert_eq!(by_index(&[5], &values!["a"]), [0]);
}
