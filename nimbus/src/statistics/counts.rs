//! Adding and subtracting what executors count.
//!
//! Not here: over which time. Invariant: `add(earlier, since(later, earlier))` is `later`, but for what is of now and not
//! counted: `pending`, `held` and `window` stay out of both.

use worker_api::report::{Counts, Distribution, Input, Output};

/// What was counted since `earlier`, which `later` continues; what went down counts as unchanged.
pub(super) fn since(later: &Counts, earlier: &Counts) -> Counts {
    let input = |input: &Input| {
        let of = |before: &&Input| (&before.component, &before.stream) == (&input.component, &input.stream);
        let before = earlier.inputs.iter().find(of);
        let less = |number: fn(&Input) -> u64| number(input).saturating_sub(before.map_or(0, number));
        Input {
            component: input.component.clone(),
            stream: input.stream.clone(),
            executed: less(|input| input.executed),
            acked: less(|input| input.acked),
            failed: less(|input| input.failed),
            execute_us: less(|input| input.execute_us),
            process_us: less(|input| input.process_us),
        }
    };
    let output = |(stream, output): (&String, &Output)| {
        let before = earlier.outputs.get(stream).copied().unwrap_or_default();
        let emitted = output.emitted.saturating_sub(before.emitted);
        (stream.clone(), Output { emitted, transferred: output.transferred.saturating_sub(before.transferred) })
    };
    let failed = later
        .failed_by_kind
        .iter()
        .map(|(kind, count)| (*kind, count.saturating_sub(earlier.failed_by_kind.get(kind).copied().unwrap_or(0))));
    let less = |number: fn(&Counts) -> u64| number(later).saturating_sub(number(earlier));
    Counts {
        executed: less(|counts| counts.executed),
        acked: less(|counts| counts.acked),
        failed: less(|counts| counts.failed),
        failed_by_kind: failed.filter(|(_, count)| *count > 0).collect(),
        outputs: later.outputs.iter().map(output).collect(),
        inputs: later.inputs.iter().map(input).collect(),
        pending: 0,
        held: 0,
        window: 0,
        restarts: less(|counts| counts.restarts),
        malformed: less(|counts| counts.malformed),
        error_count: less(|counts| counts.error_count),
        execute: later.execute.since(&earlier.execute),
        process: later.process.since(&earlier.process),
        complete: later.complete.since(&earlier.complete),
    }
}

/// Whether nothing was counted.
pub(super) fn is_nothing(counts: &Counts) -> bool {
    let Counts { executed, acked, failed, restarts, malformed, error_count, .. } = counts;
    let quiet = |input: &Input| {
        (input.executed, input.acked, input.failed, input.execute_us, input.process_us) == (0, 0, 0, 0, 0)
    };
    (executed, acked, failed, restarts, malformed, error_count) == (&0, &0, &0, &0, &0, &0)
        && counts.outputs.values().all(|output| *output == Output::default())
        && counts.inputs.iter().all(quiet)
        && [&counts.execute, &counts.process, &counts.complete].into_iter().all(|times| times.buckets.is_empty())
}

/// Adds what was counted in another time or by another life.
pub(super) fn add(total: &mut Counts, more: &Counts) {
    total.executed = total.executed.saturating_add(more.executed);
    total.acked = total.acked.saturating_add(more.acked);
    total.failed = total.failed.saturating_add(more.failed);
    for (kind, count) in &more.failed_by_kind {
        let sum = total.failed_by_kind.entry(*kind).or_default();
        *sum = sum.saturating_add(*count);
    }
    for (stream, output) in &more.outputs {
        let sum = total.outputs.entry(stream.clone()).or_default();
        sum.emitted = sum.emitted.saturating_add(output.emitted);
        sum.transferred = sum.transferred.saturating_add(output.transferred);
    }
    for input in &more.inputs {
        let of = |sum: &&mut Input| (&sum.component, &sum.stream) == (&input.component, &input.stream);
        match total.inputs.iter_mut().find(of) {
            Some(sum) => {
                sum.executed = sum.executed.saturating_add(input.executed);
                sum.acked = sum.acked.saturating_add(input.acked);
                sum.failed = sum.failed.saturating_add(input.failed);
                sum.execute_us = sum.execute_us.saturating_add(input.execute_us);
                sum.process_us = sum.process_us.saturating_add(input.process_us);
            }
            None => total.inputs.push(input.clone()),
        }
    }
    total.restarts = total.restarts.saturating_add(more.restarts);
    total.malformed = total.malformed.saturating_add(more.malformed);
    total.error_count = total.error_count.saturating_add(more.error_count);
    total.execute.add(&more.execute);
    total.process.add(&more.process);
    total.complete.add(&more.complete);
}

/// The same counts with times in buckets at most a quarter wide instead of a sixteenth: sums and numbers stay exact.
pub(super) fn coarse(counts: &Counts) -> Counts {
    let coarse = |fine: &Distribution| {
        let mut buckets: Vec<(u64, u64)> = Vec::new();
        for (upper, count) in &fine.buckets {
            let width = 1u64 << upper.max(&1).ilog2().saturating_sub(2);
            let upper = upper / width * width + (width - 1);
            match buckets.last_mut() {
                Some((last, sum)) if *last == upper => *sum += count,
                _ => buckets.push((upper, *count)),
            }
        }
        Distribution { sum_us: fine.sum_us, buckets }
    };
    Counts {
        execute: coarse(&counts.execute),
        process: coarse(&counts.process),
        complete: coarse(&counts.complete),
        ..counts.clone()
    }
}
