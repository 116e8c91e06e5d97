//! A histogram of durations: buckets that widen with the value, each within 1.6 % of what it counts.

use std::time::Duration;

/// Each doubling of the value is divided into 2^6 buckets.
const BITS: u32 = 6;
const STEPS: u64 = 1 << BITS;
/// Values end at 2^40 ns, 18 minutes.
const MAX_VALUE: u64 = (1 << 40) - 1;

#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; bucket(MAX_VALUE) + 1], total: 0, max: 0 }
    }
}

impl Histogram {
    #[inline]
    pub fn add(&mut self, duration: Duration) {
        let value = (duration.as_nanos() as u64).min(MAX_VALUE);
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// The nanoseconds that a share of all values does not exceed; 0 where there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return highest(index).min(self.max);
            }
        }
        self.max
    }

    pub fn max(&self) -> u64 {
        self.max
    }
}

/// The bucket of a value: itself while it is small, then the power of two and the six bits behind the leading one.
#[inline]
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(BITS + 1);
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The highest value of a bucket.
fn highest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    ((bucket - shift * STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_hold_their_values() {
        for value in (0..20_000).chain((0..40).map(|power| 1 << power)).chain([MAX_VALUE]) {
            let at = bucket(value);
            assert!(highest(at) >= value && (at == 0 || highest(at - 1) < value), "{value}");
            assert!(highest(at) - value <= value / STEPS, "{value}");
        }
    }

    #[test]
    fn quantiles_are_near_the_truth() {
        let mut histogram = Histogram::default();
        for value in 1..=100_000 {
            histogram.add(Duration::from_nanos(value));
        }
        for (share, truth) in [(0.5, 50_000.0), (0.9, 90_000.0), (0.99, 99_000.0), (0.999, 99_900.0)] {
            let found = histogram.quantile(share) as f64;
            assert!((found / truth - 1.0).abs() < 0.016, "{share}: {found}");
        }
        assert_eq!(histogram.max(), 100_000);
        assert_eq!(histogram.quantile(1.0), 100_000);
    }

    #[test]
    fn an_empty_histogram_and_an_endless_value_are_fine() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        histogram.add(Duration::MAX);
        assert_eq!(histogram.quantile(0.5), MAX_VALUE);
    }
}
