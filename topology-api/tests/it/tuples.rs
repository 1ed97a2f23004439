//! Bytes and values of tuples.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::collection::{btree_map, btree_set, hash_map, hash_set, vec};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use storm::tuple::{Bytes, ConvertError, Field, KeyBytes, Shared, Text, Tuple, Value, Values, tuple};
use storm::values;

#[tuple]
#[derive(Debug, PartialEq)]
struct Word {
    word: Text,
}

#[tuple]
#[derive(Debug, PartialEq, Eq)]
struct Beat {}

#[tuple]
#[derive(Debug, PartialEq)]
struct Numbers {
    tiny: i8,
    short: i16,
    int: i32,
    long: i64,
    huge: i128,
    index: isize,
    byte: u8,
    port: u16,
    count: u32,
    id: u64,
    hash: u128,
    size: usize,
    single: f32,
    double: f64,
    flag: bool,
    letter: char,
}

#[tuple]
#[derive(Debug, PartialEq)]
struct Holders {
    text: Text,
    string: String,
    shared_text: Arc<str>,
    bytes: Bytes,
    buffer: Vec<u8>,
    digest: [u8; 32],
    none: [u64; 0],
    point: [f64; 3],
    names: [Text; 2],
    numbers: Vec<u32>,
    shared_numbers: Arc<[i16]>,
    words: Vec<String>,
    maybe: Option<Text>,
    pair: (Text, u64),
    four: (u8, bool, i32, Option<u8>),
    boxed: Box<u64>,
    arc: Arc<Vec<u64>>,
}

#[tuple]
#[derive(Debug, PartialEq)]
struct Collections {
    by_name: HashMap<String, u64>,
    by_id: BTreeMap<u64, Text>,
    tags: HashSet<Text>,
    codes: BTreeSet<i32>,
    took: Duration,
    at: SystemTime,
    any: Value,
    within: Word,
    beats: Vec<Beat>,
    r#type: Option<Vec<Word>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Address {
    street: String,
    floor: Option<i8>,
}

#[tuple]
#[derive(Debug, PartialEq)]
struct Parcel {
    id: u64,
    #[tuple(serde)]
    to: Address,
    weight: f32,
}

fn numbers() -> impl Strategy<Value = Numbers> {
    let signed = any::<(i8, i16, i32, i64, i128, i64)>();
    let unsigned = any::<(u8, u16, u32, u64, u128, u64)>();
    let others = (any::<f32>(), any::<f64>(), any::<bool>(), any::<char>());
    (signed, unsigned, others).prop_map(|(i, u, (single, double, flag, letter))| Numbers {
        tiny: i.0,
        short: i.1,
        int: i.2,
        long: i.3,
        huge: i.4,
        index: i.5 as isize,
        byte: u.0,
        port: u.1,
        count: u.2,
        id: u.3,
        hash: u.4,
        size: u.5 as usize,
        single,
        double,
        flag,
        letter,
    })
}

fn text() -> impl Strategy<Value = Text> {
    any::<String>().prop_map(Text::from)
}

fn holders() -> impl Strategy<Value = Holders> {
    let texts = (text(), any::<String>(), any::<String>(), [text(), text()], vec(any::<String>(), 0..4));
    let bytes = (any::<Vec<u8>>(), any::<Vec<u8>>(), any::<[u8; 32]>());
    let numbers = (any::<[i32; 3]>(), any::<Vec<u32>>(), any::<Vec<i16>>(), any::<u64>(), any::<Vec<u64>>());
    let parts = (proptest::option::of(text()), (text(), any::<u64>()), any::<(u8, bool, i32, Option<u8>)>());
    (texts, bytes, numbers, parts).prop_map(|(texts, bytes, numbers, parts)| Holders {
        text: texts.0,
        string: texts.1,
        shared_text: texts.2.into(),
        names: texts.3,
        words: texts.4,
        bytes: bytes.0.into(),
        buffer: bytes.1,
        digest: bytes.2,
        none: [],
        point: numbers.0.map(f64::from),
        numbers: numbers.1,
        shared_numbers: numbers.2.into(),
        boxed: Box::new(numbers.3),
        arc: Arc::new(numbers.4),
        maybe: parts.0,
        pair: parts.1,
        four: parts.2,
    })
}

fn word() -> impl Strategy<Value = Word> {
    text().prop_map(|word| Word { word })
}

fn time() -> impl Strategy<Value = SystemTime> {
    // Some 290 years around 1970.
    any::<i64>().prop_map(|nanos| {
        let distance = Duration::from_nanos(nanos.unsigned_abs());
        if nanos < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
    })
}

fn collections() -> impl Strategy<Value = Collections> {
    let maps = (hash_map(any::<String>(), any::<u64>(), 0..6), btree_map(any::<u64>(), text(), 0..6));
    let sets = (hash_set(text(), 0..6), btree_set(any::<i32>(), 0..6));
    let times = (any::<Duration>(), time());
    let others = (value(), word(), 0..4usize, proptest::option::of(vec(word(), 0..3)));
    (maps, sets, times, others).prop_map(|(maps, sets, times, others)| Collections {
        by_name: maps.0,
        by_id: maps.1,
        tags: sets.0,
        codes: sets.1,
        took: times.0,
        at: times.1,
        any: others.0,
        within: others.1,
        beats: vec![Beat {}; others.2],
        r#type: others.3,
    })
}

fn parcel() -> impl Strategy<Value = Parcel> {
    (any::<(u64, f32)>(), any::<(String, Option<i8>)>()).prop_map(|((id, weight), (street, floor))| Parcel {
        id,
        weight,
        to: Address { street, floor },
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i128>().prop_map(Value::from),
        any::<u128>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(Value::from(f64::INFINITY)),
        any::<String>().prop_map(Value::from),
        Just(Value::from("$bytes")),
        any::<Vec<u8>>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((inner.clone(), inner.clone()), 0..4).prop_map(|entries| Value::Map(entries.into_iter().collect())),
            vec((any::<String>(), inner), 0..2).prop_map(|entries| {
                Value::Map(entries.into_iter().map(|(key, value)| (Value::from(format!("${key}")), value)).collect())
            }),
        ]
    })
}

fn encoded(tuple: &impl Tuple) -> Vec<u8> {
    let mut out = Vec::new();
    tuple.encode(&mut out);
    out
}

fn key_of<T: Tuple>(tuple: &T, fields: &[usize]) -> Vec<u8> {
    let mut key = KeyBytes::default();
    tuple.write_key_of(fields, &mut key);
    key.as_bytes().to_vec()
}

/// What holds for every tuple.
fn check<T: Tuple + PartialEq + std::fmt::Debug>(tuple: &T) {
    let bytes = encoded(tuple);
    let mut input = &[&bytes[..], &[0xee]].concat()[..];
    assert_eq!(T::decode(&mut input).as_ref(), Ok(tuple));
    assert_eq!(input, [0xee], "nothing beyond the tuple is read");
    for cut in 0..bytes.len() {
        assert!(T::decode(&mut &bytes[..cut]).is_err(), "{cut} of {} bytes were taken for a tuple", bytes.len());
    }

    let values = tuple.clone().into_values();
    assert_eq!(T::from_values(values.clone()).as_ref(), Ok(tuple));
    let keyed = |index: &usize| !T::OPAQUE_FIELDS.contains(&T::FIELDS[*index]);
    let fields: Vec<usize> = (0..T::FIELDS.len()).filter(keyed).collect();
    for field in &fields {
        assert_eq!(key_of(tuple, &[*field]), key_of(&values, &[*field]), "the key `{}`", T::FIELDS[*field]);
    }
    assert_eq!(key_of(tuple, &fields), key_of(&values, &fields));

    let values_bytes = encoded(&values);
    assert_eq!(Values::decode(&mut &values_bytes[..]), Ok(values));
    assert!(Values::decode(&mut &values_bytes[..values_bytes.len() - 1]).is_err());
    if !T::HAS_HEAP {
        assert_eq!(tuple.heap_size(), 0);
    }
}

fn decode_anything<T: Tuple>(bytes: &[u8]) {
    if let Ok(tuple) = T::decode(&mut &bytes[..]) {
        assert!(tuple.heap_size() <= 256 * (bytes.len() + 16), "{} bytes became {}", bytes.len(), tuple.heap_size());
    }
}

proptest! {
    #[test]
    fn numbers_survive_the_wire_and_values(tuple in numbers()) {
        check(&tuple);
    }

    #[test]
    fn holders_survive_the_wire_and_values(tuple in holders()) {
        check(&tuple);
    }

    #[test]
    fn collections_survive_the_wire_and_values(tuple in collections()) {
        check(&tuple);
    }

    #[test]
    fn serde_fields_survive_the_wire_and_values(tuple in parcel()) {
        check(&tuple);
    }

    #[test]
    fn shared_tuples_are_their_tuple_on_the_wire(tuple in word()) {
        let shared = Shared::new(tuple.clone());
        check(&shared);
        prop_assert_eq!(encoded(&shared), encoded(&tuple));
    }

    #[test]
    fn values_survive_json(value in value()) {
        let text = value.to_json().to_string();
        let read = Value::from_json(serde_json::from_str(&text).unwrap());
        prop_assert_eq!(read, value, "{}", text);
    }

    #[test]
    fn garbage_is_refused_or_read_without_a_panic(bytes in any::<Vec<u8>>()) {
        decode_anything::<Numbers>(&bytes);
        decode_anything::<Holders>(&bytes);
        decode_anything::<Collections>(&bytes);
        decode_anything::<Parcel>(&bytes);
        decode_anything::<Values>(&bytes);
    }

    #[test]
    fn a_flipped_byte_is_refused_or_read_without_a_panic(
        (holders, collections) in (holders(), collections()), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = encoded(&holders);
        let index = at.index(bytes.len());
        bytes[index] = byte;
        decode_anything::<Holders>(&bytes);
        let mut bytes = encoded(&collections);
        let index = at.index(bytes.len());
        bytes[index] = byte;
        decode_anything::<Collections>(&bytes);
    }
}

#[test]
fn the_bytes_of_a_tuple_are_fixed() {
    #[tuple]
    struct Order {
        shop: Text,
        id: u32,
        paid: bool,
        tags: Vec<u16>,
        note: Option<Bytes>,
        at: SystemTime,
        within: Word,
        codes: HashMap<u8, char>,
        digest: [u8; 2],
    }
    let order = Order {
        shop: "abc".into(),
        id: 0x0102_0304,
        paid: true,
        tags: vec![1, 0x200],
        note: Some(Bytes::from_static(b"\xff")),
        at: SystemTime::UNIX_EPOCH - Duration::from_nanos(1),
        within: Word { word: "w".into() },
        codes: HashMap::from([(2, 'b'), (1, 'a')]),
        digest: [7, 8],
    };
    #[rustfmt::skip]
    assert_eq!(encoded(&order), [
        3, b'a', b'b', b'c',
        4, 3, 2, 1,
        1,
        2, 1, 0, 0, 2,
        1, 1, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc9, 0x9a, 0x3b,
        0, 1, b'w',
        2, 1, b'a', 0, 0, 0, 2, b'b', 0, 0, 0,
        7, 8,
    ]);
    assert!(encoded(&Beat {}).is_empty());
}

#[test]
fn the_bytes_of_values_are_fixed() {
    let map = [(Value::from("k"), Value::Null)].into_iter().collect::<storm::tuple::ValueMap>();
    let values = values![(), true, -1, 0.5, "a", &b"b"[..], vec![Value::from(false)], map, u64::MAX];
    #[rustfmt::skip]
    assert_eq!(encoded(&values), [
        9,
        0,
        2,
        3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        4, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f,
        5, 1, b'a',
        6, 1, b'b',
        7, 1, 1,
        8, 1, 5, 1, b'k', 0,
        9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
}

#[test]
fn what_json_lacks_is_marked() {
    let map = |entries: &[(Value, Value)]| Value::Map(entries.iter().cloned().collect());
    let json = |value: Value| value.to_json().to_string();
    assert_eq!(json(Value::from(&b"\x00\xff"[..])), r#"{"$bytes":"00ff"}"#);
    assert_eq!(json(Value::from(u64::MAX)), "18446744073709551615");
    assert_eq!(json(Value::from(u128::MAX)), r#"{"$int":"340282366920938463463374607431768211455"}"#);
    assert_eq!(json(Value::from(f64::NEG_INFINITY)), r#"{"$float":"-inf"}"#);
    assert_eq!(json(Value::from(f64::NAN)), r#"{"$float":"NaN"}"#);
    assert_eq!(json(map(&[("a".into(), 1.into())])), r#"{"a":1}"#);
    assert_eq!(json(map(&[(1.into(), 2.into())])), r#"{"$map":[[1,2]]}"#);
    assert_eq!(json(map(&[("$map".into(), 2.into())])), r#"{"$map":[["$map",2]]}"#);
    let unread = Value::from_json(serde_json::json!({"$bytes": "xyz"}));
    assert_eq!(unread, map(&[("$bytes".into(), "xyz".into())]));
}

#[test]
fn values_nested_too_deep_are_refused() {
    let nested = |depth| (0..depth).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    assert!(Values::decode(&mut &encoded(&values![nested(64)])[..]).is_ok());
    let error = Values::decode(&mut &encoded(&values![nested(65)])[..]).unwrap_err();
    assert_eq!(error.to_string(), "a value has more than 64 lists and maps within each other");
    let bomb = [&[1][..], &[7, 1].repeat(500_000)].concat();
    assert!(Values::decode(&mut &bomb[..]).is_err());
}

#[test]
fn a_count_beyond_the_bytes_is_refused() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let error = <Word as Tuple>::decode(&mut &huge[..]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tried to read field `word` of `Word`: a length of 4294967295 is given, but 0 bytes are left"
    );
    assert!(Vec::<u64>::decode(&mut &[3, 1, 2, 3][..]).is_err());
}

#[test]
fn equal_maps_have_equal_bytes() {
    let forwards: HashMap<u32, u32> = (0..100).map(|n| (n, n)).collect();
    let backwards: HashMap<u32, u32> = (0..100).rev().map(|n| (n, n)).collect();
    let bytes = |map: &HashMap<u32, u32>| {
        let mut out = Vec::new();
        map.encode(&mut out);
        out
    };
    assert_eq!(bytes(&forwards), bytes(&backwards));
    assert_eq!(bytes(&forwards)[..10], [100, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn what_does_not_convert_is_named() {
    let told = |result: Result<Numbers, ConvertError>| result.unwrap_err().to_string();
    assert_eq!(
        Word::from_values(values!["a", 2]).unwrap_err().to_string(),
        "`Word` has one field (word), but 2 values came"
    );
    assert_eq!(
        Word::from_values(values![7]).unwrap_err().to_string(),
        "field `word` of `Word` takes a text, but the integer 7 came"
    );
    let sixteen = |tiny: Value| Numbers::from_values((0..16).map(|_| tiny.clone()).collect());
    assert_eq!(
        told(sixteen(300.into())),
        "field `tiny` of `Numbers` takes an integer from -128 to 127, but the integer 300 came"
    );
    assert_eq!(
        told(sixteen("x".repeat(40).into())),
        "field `tiny` of `Numbers` takes an integer from -128 to 127, but the text \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"… came"
    );
    assert_eq!(
        Parcel::from_values(values![1, "here", 0.5]).unwrap_err().to_string(),
        "field `to` of `Parcel` takes what serde reads as Address, but the text \"here\" came"
    );
}

#[test]
fn values_of_other_languages_are_taken_where_nothing_is_lost() {
    assert_eq!(f64::from_value(1.into()), Ok(1.0));
    assert_eq!(f64::from_value(Value::from((1i64 << 53) + 1)).ok(), None);
    assert_eq!(Vec::<u8>::from_value(vec![Value::from(1), Value::from(2)].into()), Ok(vec![1, 2]));
    assert_eq!(f32::from_value(1e300.into()).ok(), None);
    assert_eq!(Option::<u8>::from_value(Value::Null), Ok(None));
}

#[test]
fn a_serde_value_that_does_not_serialize_is_told_where_it_is_read() {
    #[derive(Clone)]
    struct Stubborn;
    impl Serialize for Stubborn {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    impl<'de> Deserialize<'de> for Stubborn {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Stubborn)
        }
    }
    #[tuple]
    struct Holder {
        #[tuple(serde)]
        value: Stubborn,
    }
    let error = Holder::decode(&mut &encoded(&Holder { value: Stubborn })[..]).err().unwrap().to_string();
    assert!(
        error.starts_with("tried to read field `value` of `Holder`: the sender could not serialize its Stubborn: "),
        "{error}"
    );
}

#[test]
fn what_the_macro_says_about_a_tuple() {
    assert_eq!(Parcel::NAME, "Parcel");
    assert_eq!(Parcel::FIELDS, ["id", "to", "weight"]);
    assert_eq!(Parcel::OPAQUE_FIELDS, ["to"]);
    assert_eq!(Collections::FIELDS[9], "type");
    const { assert!(<Word as Tuple>::HAS_HEAP && !<Numbers as Tuple>::HAS_HEAP && !<Beat as Tuple>::HAS_HEAP) };
    assert_eq!(Collections::TYPE.name(), "type");
    assert_eq!(Parcel::WEIGHT.index(), 2);
    assert_eq!(Word::WORD.get(&Word { word: "a".into() }), "a");
}

#[test]
fn heap_is_counted() {
    assert_eq!(Tuple::heap_size(&Word { word: "short".into() }), 0);
    assert_eq!(Tuple::heap_size(&Word { word: "x".repeat(100).into() }), 116);
    assert_eq!(vec![1u64, 2].heap_size(), 16);
    assert_eq!(Some(Bytes::from_static(&[0; 50])).heap_size(), 50);
    assert_eq!(vec![String::from("abc")].heap_size(), 24 + 3);
}

#[test]
fn a_clone_that_the_author_lists_is_not_written_again() {
    #[tuple]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Point {
        x: f64,
    }
    let point = Point { x: 1.0 };
    let copy = point;
    assert_eq!(point, copy);
}

#[test]
fn a_tuple_within_a_tuple_is_a_map() {
    let json = |json| Value::from_json(json);
    assert_eq!(Word { word: "inner".into() }.into_value(), json(serde_json::json!({"word": "inner"})));
    assert_eq!(Word::from_value(json(serde_json::json!({"word": "inner"}))), Ok(Word { word: "inner".into() }));
    let error = Word::from_value(json(serde_json::json!({"wrod": "inner"}))).unwrap_err();
    assert_eq!(error.to_string(), "expected a map of the fields of `Word` (word), but a map of 1 came");
}
