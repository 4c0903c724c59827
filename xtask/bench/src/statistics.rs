//! Medians and percentiles.

/// How sure an interval should be, if there are enough values for it.
const COVERAGE: f64 = 0.95;

/// The middle value, or the mean of the two in the middle; `NaN` of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        None => f64::NAN,
        Some(upper) if sorted.len() % 2 == 1 => *upper,
        Some(upper) => f64::midpoint(sorted[middle - 1], *upper),
    }
}

/// Where the median of all possible runs lies, judged from some.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// How probable it is that the interval holds the true median.
    pub(crate) coverage: f64,
}

/// The interval between two order statistics, as far from the ends as 95 % allow; from the least to the greatest value
/// if even that is less sure, as it is of fewer than six.
///
/// The median exceeds each value with probability ½, so how many of `n` values lie below it is binomial, whatever the
/// distribution of the values: the interval from the `k`-th to the `k`-th from the end misses it with probability
/// 2 P(B ≤ k − 1).
pub(crate) fn median_interval(values: &[f64]) -> Interval {
    let sorted = sorted(values);
    let (Some(least), Some(greatest)) = (sorted.first(), sorted.last()) else {
        return Interval { low: f64::NAN, high: f64::NAN, coverage: 0.0 };
    };
    let mut interval = Interval { low: *least, high: *greatest, coverage: 0.0 };
    let mut tail = 0.0;
    let mut chance = 0.5_f64.powf(sorted.len() as f64);
    for rank in 0..sorted.len() / 2 {
        tail += chance;
        let coverage = 1.0 - 2.0 * tail;
        if rank > 0 && coverage < COVERAGE {
            break;
        }
        interval = Interval { low: sorted[rank], high: sorted[sorted.len() - 1 - rank], coverage };
        chance *= (sorted.len() - rank) as f64 / (rank + 1) as f64;
    }
    interval
}

/// The smallest value that at least `percent` of all values do not exceed; `NaN` of nothing.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let sorted = sorted(values);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// The least and the greatest value.
pub(crate) fn range(values: &[f64]) -> (f64, f64) {
    (values.iter().copied().fold(f64::NAN, f64::min), values.iter().copied().fold(f64::NAN, f64::max))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_interval(count: u32, expected: (f64, f64, f64)) {
        let values: Vec<f64> = (1..=count).rev().map(f64::from).collect();
        let found = median_interval(&values);
        let off = [found.low - expected.0, found.high - expected.1, found.coverage - expected.2];
        assert!(off.iter().all(|off| off.abs() < 1e-3), "{found:?} of {count} values");
    }

    #[test]
    fn the_median_of_an_even_count_lies_between_the_two_in_the_middle() {
        assert!((median(&[4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < 1e-9);
        assert!((median(&[9.0, 1.0, 5.0]) - 5.0).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_interval_of_few_values_is_all_of_them_and_says_how_sure_that_is() {
        check_interval(1, (1.0, 1.0, 0.0));
        check_interval(3, (1.0, 3.0, 0.75));
        check_interval(5, (1.0, 5.0, 0.9375));
        check_interval(7, (1.0, 7.0, 0.984));
        check_interval(8, (1.0, 8.0, 0.992));
    }

    #[test]
    fn the_interval_of_more_values_is_the_narrowest_of_95_percent() {
        check_interval(9, (2.0, 8.0, 0.961));
        check_interval(15, (4.0, 12.0, 0.965));
        check_interval(25, (8.0, 18.0, 0.957));
        assert!(median_interval(&[]).low.is_nan());
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert!((percentile(&values, 99) - 198.0).abs() < 1e-9);
        assert!((percentile(&values, 50) - 100.0).abs() < 1e-9);
        assert!((percentile(&[7.0], 99) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn a_range_is_the_least_and_the_greatest() {
        assert_eq!(range(&[3.0, 1.0, 2.0]), (1.0, 3.0));
    }
}
