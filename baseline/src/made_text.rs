//! A text of made-up words with the frequencies of a natural one (Zipf), 6 to 18 words a line.
//!
//! Not here: any real text. Invariant: a size gives the same bytes on every machine.

use std::io::{self, Write};

use crate::split_mix::SplitMix;

const SEED: u64 = 7;

/// Words that differ, or nearly: a few are made twice.
const VOCABULARY: usize = 30_000;

const SYLLABLES: [&str; 20] = [
    "ka", "lo", "mi", "ter", "an", "es", "on", "re", "tion", "al", "ing", "the", "of", "po", "vi", "su", "ne", "ra",
    "qu", "e",
];

/// How many syllables a word has: each entry is as likely as the others.
const LENGTHS: [usize; 6] = [1, 1, 2, 2, 3, 4];

/// Writes whole lines until at least `bytes` bytes are written; returns how many were.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut impl Write, bytes: u64) -> io::Result<u64> {
    let mut random = SplitMix::new(SEED);
    let pick = |random: &mut SplitMix, length: usize| random.below(length as u64) as usize;
    let words: Vec<String> = (0..VOCABULARY)
        .map(|_| {
            let syllables = LENGTHS[pick(&mut random, LENGTHS.len())];
            (0..syllables).map(|_| SYLLABLES[pick(&mut random, SYLLABLES.len())]).collect()
        })
        .collect();
    // Integers, so that no rounding differs between machines: the word of rank n has the weight 2³² / n.
    let ends: Vec<u64> = (1..=VOCABULARY as u64)
        .scan(0, |end, rank| {
            *end += (1 << 32) / rank;
            Some(*end)
        })
        .collect();
    let all = ends[VOCABULARY - 1];

    let mut written = 0;
    let mut line = String::new();
    while written < bytes {
        line.clear();
        for _ in 0..6 + pick(&mut random, 13) {
            let drawn = random.below(all);
            line += &words[ends.partition_point(|end| *end <= drawn)];
            line.push(' ');
        }
        line.pop();
        line.push('\n');
        out.write_all(line.as_bytes())?;
        written += line.len() as u64;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn text(bytes: u64) -> String {
        let mut text = Vec::new();
        assert_eq!(write(&mut text, bytes).unwrap(), text.len() as u64);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_size_gives_the_same_text() {
        assert_eq!(
            text(100),
            "kaqu al of ing poes nene of\n\
             poterter tion the alan loalloan su alviter reon ne suee terqu onmi ingponean que raraingra\n"
        );
    }

    #[test]
    fn lines_are_whole_and_of_6_to_18_words() {
        let text = text(200_000);
        assert!(text.len() >= 200_000 && text.len() < 200_300 && text.ends_with('\n'));
        for line in text.lines() {
            let words = line.split(' ').count();
            assert!((6..=18).contains(&words) && line.split(' ').all(|word| !word.is_empty()), "{line:?}");
        }
    }

    #[test]
    fn frequencies_fall_as_ranks_rise() {
        let text = text(1_000_000);
        let mut counts = BTreeMap::<&str, u64>::new();
        text.split_whitespace().for_each(|word| *counts.entry(word).or_default() += 1);
        let mut falling: Vec<u64> = counts.into_values().collect();
        falling.sort_unstable_by(|one, other| other.cmp(one));
        assert!(falling.len() > 5_000, "{}", falling.len());
        assert!(falling[0] > 5 * falling[19], "{:?}", &falling[..20]);
    }
}
