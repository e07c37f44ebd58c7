// SPDX-License-Identifier: GPL-2.0

//! Medians and spread.

/// The median, and the quartiles around it: half of all values lie between those.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub q1: f64,
    pub median: f64,
    pub q3: f64,
}

impl Spread {
    /// `None` if there are no values.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Spread {
            q1: quantile(&sorted, 0.25)?,
            median: quantile(&sorted, 0.5)?,
            q3: quantile(&sorted, 0.75)?,
        })
    }
}

/// Between two values, by linear interpolation.
fn quantile(sorted: &[f64], fraction: f64) -> Option<f64> {
    let position = fraction * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (position.floor(), position.ceil());
    let (low, high) = (sorted[below as usize], sorted[above as usize]);
    Some(low + (high - low) * (position - below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn one_value_is_its_own_spread() {
        let spread = Spread::of(&[4.0]).unwrap();
        assert_eq!((spread.q1, spread.median, spread.q3), (4.0, 4.0, 4.0));
    }

    #[test]
    fn the_order_of_the_values_does_not_matter() {
        let spread = Spread::of(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.q1, spread.median, spread.q3), (2.0, 3.0, 4.0));
    }

    #[test]
    fn a_quartile_may_lie_between_two_values() {
        let spread = Spread::of(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((spread.q1, spread.median, spread.q3), (1.75, 2.5, 3.25));
    }

    #[test]
    fn one_outlier_moves_no_median() {
        let spread = Spread::of(&[1.0, 1.0, 1.0, 1.0, 1e9]).unwrap();
        assert_eq!((spread.q1, spread.median, spread.q3), (1.0, 1.0, 1.0));
    }
}
