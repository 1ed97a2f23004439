//! The bytes of a batch.

use proptest::prelude::*;
use storm::anchor::{Anchor, Edge, EdgeIds, Generation, LedgerId, Root, Slot};
use storm::batch::{Anchors, AnyBatch, Batch, decode_anchors};
use storm::prelude::*;

#[tuple]
#[derive(Debug, PartialEq)]
struct Pair {
    number: u16,
    text: Text,
}

fn pair(number: u16, text: &str) -> Pair {
    Pair { number, text: text.into() }
}

fn anchor(root: u64, edge: u64) -> Anchor {
    Anchor { root: Root::from_bits(root), edge: Edge(edge) }
}

fn encoded(batch: &dyn AnyBatch, receivers: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    batch.encode(receivers, &mut EdgeIds::from_key([7; 32]), &mut bytes);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All kinds of anchors: none, one, the same root again, another, several.
fn mixed() -> (Vec<Pair>, Anchors) {
    let mut anchors = Anchors::default();
    anchors.push(&[]);
    anchors.push(&[anchor(0x0102_0304_0506_0708, 0x1112_1314_1516_1718)]);
    anchors.push(&[anchor(0x0102_0304_0506_0708, 0x2122_2324_2526_2728)]);
    anchors.push(&[anchor(5, 6), anchor(7, 8)]);
    anchors.push(&[anchor(0x0102_0304_0506_0708, 9)]);
    (vec![pair(1, "a"), pair(2, ""), pair(3, "ccc"), pair(4, "d"), pair(5, "e")], anchors)
}

#[test]
fn the_bytes_are_laid_out_as_written() {
    let (tuples, anchors) = mixed();
    let one = encoded(&Batch::new(tuples, anchors), 1);
    let expected = [
        "0100",     // one receiver
        "49000000", // whose anchors take 73 bytes
        "00",       // no tree
        "01",
        "0807060504030201",
        "1817161514131211",
        "02",
        "2827262524232221", // the same root
        "03",
        "02000000",
        "0500000000000000",
        "0600000000000000",
        "0700000000000000",
        "0800000000000000",
        "02",
        "0900000000000000", // the root before the list
        "0100",
        "01",
        "61",
        "0200",
        "00",
        "0300",
        "03",
        "636363",
        "0400",
        "01",
        "64",
        "0500",
        "01",
        "65",
    ];
    assert_eq!(hex(&one), expected.concat());
    let none = encoded(&Batch::new(vec![pair(1, "a")], Anchors::default()), 2);
    assert_eq!(hex(&none), ["0200", "00000000", "00000000", "0100", "01", "61"].concat());
}

#[test]
fn receivers_divide_the_edges_among_them() {
    let (tuples, anchors) = mixed();
    let bytes = encoded(&Batch::new(tuples.clone(), anchors.clone()), 3);
    let shares: Vec<Batch<Pair>> = (0..3).map(|receiver| Batch::decode(&bytes, receiver, 5).unwrap()).collect();
    for (index, tuple) in tuples.iter().enumerate() {
        for (place, whole) in anchors.of(index).iter().enumerate() {
            let parts: Vec<Anchor> = shares.iter().map(|share| share.anchors.of(index)[place]).collect();
            assert!(parts.iter().all(|part| part.root == whole.root && part.edge != Edge(0)));
            assert_eq!(parts.iter().fold(0, |edge, part| edge ^ part.edge.0), whole.edge.0);
        }
        assert!(shares.iter().all(|share| share.anchors.of(index).len() == anchors.of(index).len()));
        assert!(shares.iter().all(|share| share.tuples.as_slice()[index] == *tuple));
    }
    let missing = Batch::<Pair>::decode(&bytes, 3, 5).err().unwrap();
    assert_eq!(missing.to_string(), "a batch has no anchors for receiver 3");
}

#[test]
fn markers_do_not_come_from_outside() {
    for root in [Root::NONE, Anchor::many(0).root] {
        let mut bytes = vec![1, 0, 17, 0, 0, 0, 1];
        bytes.extend(root.to_bits().to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend([1, 0, 0]);
        let error = Batch::<Pair>::decode(&bytes, 0, 1).err().unwrap();
        assert_eq!(error.to_string(), "an anchor names a root that no spout has");
    }
}

#[test]
fn tuples_that_cannot_be_read_still_have_anchors_to_fail() {
    let (tuples, anchors) = mixed();
    let mut bytes = encoded(&Batch::new(tuples, anchors.clone()), 1);
    *bytes.last_mut().unwrap() = 0xff;
    assert!(Batch::<Pair>::decode(&bytes, 0, 5).is_err());
    assert_eq!(decode_anchors(&bytes, 0, 5).unwrap().0, anchors);
}

fn batches() -> impl Strategy<Value = (Vec<Pair>, Anchors)> {
    let text = "[a-zé]{0,40}";
    let root = (0..4_u16, 0..6_u32, 0..3_u32)
        .prop_map(|(ledger, slot, generation)| Root::new(LedgerId(ledger), Slot(slot), Generation(generation)));
    let anchor = (root, 1..u64::MAX).prop_map(|(root, edge)| Anchor { root, edge: Edge(edge) });
    let tuple = (any::<u16>(), text, prop::collection::vec(anchor, 0..4));
    (prop::collection::vec(tuple, 0..40), any::<bool>()).prop_map(|(all, anchored)| {
        let mut anchors = Anchors::default();
        let mut tuples = Vec::new();
        for (number, text, of) in all {
            tuples.push(pair(number, &text));
            if anchored {
                anchors.push(&of);
            }
        }
        (tuples, anchors)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read((tuples, anchors) in batches(), receivers in 1..5_u16) {
        let bytes = encoded(&Batch::new(tuples.clone(), anchors.clone()), receivers);
        let mut edges: Vec<Vec<u64>> = (0..tuples.len()).map(|index| vec![0; anchors.of(index).len()]).collect();
        for receiver in 0..usize::from(receivers) {
            let batch = Batch::<Pair>::decode(&bytes, receiver, tuples.len()).unwrap();
            prop_assert_eq!(batch.tuples.as_slice(), &tuples[..]);
            for (index, edges) in edges.iter_mut().enumerate() {
                for (edge, (anchor, whole)) in edges.iter_mut().zip(batch.anchors.of(index).iter().zip(anchors.of(index))) {
                    prop_assert_eq!(anchor.root, whole.root);
                    *edge ^= anchor.edge.0;
                }
            }
        }
        for (index, edges) in edges.iter().enumerate() {
            let whole: Vec<u64> = anchors.of(index).iter().map(|anchor| anchor.edge.0).collect();
            prop_assert_eq!(edges, &whole);
        }
    }

    #[test]
    fn whatever_is_cut_off_is_missed((tuples, anchors) in batches(), receivers in 1..4_u16, cut in any::<prop::sample::Index>()) {
        let count = tuples.len();
        let bytes = encoded(&Batch::new(tuples, anchors), receivers);
        let cut = &bytes[..cut.index(bytes.len())];
        for receiver in 0..usize::from(receivers) {
            prop_assert!(Batch::<Pair>::decode(cut, receiver, count).is_err());
        }
        let more: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        prop_assert!(Batch::<Pair>::decode(&more, 0, count).is_err());
        prop_assert!(Batch::<Pair>::decode(&bytes, 0, count + 1).is_err());
    }

    #[test]
    fn garbage_neither_panics_nor_takes_much_memory(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0..u32::MAX, receiver in 0..5_usize) {
        let _ = Batch::<Pair>::decode(&bytes, receiver, count as usize);
        let _ = decode_anchors(&bytes, receiver, count as usize);
    }

    #[test]
    fn a_changed_byte_is_refused_or_gives_another_batch((tuples, anchors) in batches(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let count = tuples.len();
        let mut bytes = encoded(&Batch::new(tuples.clone(), anchors.clone()), 1);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(batch) = Batch::<Pair>::decode(&bytes, 0, count) {
            prop_assert!(batch.tuples.as_slice() != &tuples[..] || *batch.anchors != anchors);
        }
    }
}
