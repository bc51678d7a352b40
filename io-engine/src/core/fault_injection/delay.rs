//! How long a delay is: always the same, or drawn from a distribution.

use std::fmt;
use std::time::Duration;

use super::random::{Purpose, draw};

/// The longest delay in microseconds: an hour.
pub(super) const DELAY_US_MAX: u64 = 3_600_000_000;

/// Delays in microseconds. None is longer than an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Always the same.
    Fixed(u64),
    /// Each time from the first to the second, equally likely.
    Uniform(u64, u64),
    /// A normal distribution by its mean and standard deviation, cut at 0.
    Normal(u64, u64),
    /// An exponential distribution by its mean.
    Exponential(u64),
}

impl Delay {
    /// What may be written, for messages.
    pub(super) const ALLOWED: &'static str = "it has to be microseconds up to an hour, as 250, \
         uniform:100:500 (from, to), normal:200:50 (mean, deviation) or exponential:200 (mean)";

    /// Reads a delay; none when it is not one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(':').collect();
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let value: Option<u64> = digits.then(|| text.parse().ok()).flatten();
            value.filter(|&us| us <= DELAY_US_MAX)
        };
        match *words.as_slice() {
            [us] | ["fixed", us] => number(us).map(Self::Fixed),
            ["uniform", from, to] => {
                let (from, to) = (number(from)?, number(to)?);
                (from <= to).then_some(Self::Uniform(from, to))
            }
            ["normal", mean, deviation] => Some(Self::Normal(number(mean)?, number(deviation)?)),
            ["exponential", mean] => number(mean).map(Self::Exponential),
            _ => None,
        }
    }

    /// The delay of a hit.
    pub(super) fn sample(self, seed: u64, hit: u64) -> Duration {
        let random = draw(seed, hit, Purpose::Time);
        match self {
            Self::Fixed(us) => Duration::from_micros(us),
            Self::Uniform(from, to) => Duration::from_micros(from + random % (to - from + 1)),
            Self::Normal(mean, deviation) => {
                // The sum of twelve equally distributed numbers is near enough to a normal one.
                let sum: f64 = (0..12).map(|n| unit(draw(random, n, Purpose::Time))).sum();
                micros(mean as f64 + (sum - 6.0) * deviation as f64)
            }
            Self::Exponential(mean) => micros(-(1.0 - unit(random)).ln() * mean as f64),
        }
    }
}

/// A number from 0 to below 1.
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

fn micros(us: f64) -> Duration {
    let longest = Duration::from_micros(DELAY_US_MAX);
    // Below 0 there is no duration.
    Duration::try_from_secs_f64(us / 1e6).unwrap_or(Duration::ZERO).min(longest)
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(us) => write!(f, "{us}"),
            Self::Uniform(from, to) => write!(f, "uniform:{from}:{to}"),
            Self::Normal(mean, deviation) => write!(f, "normal:{mean}:{deviation}"),
            Self::Exponential(mean) => write!(f, "exponential:{mean}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_us(delay: Delay) -> u64 {
        let all: Duration = (0..4000).map(|hit| delay.sample(3, hit)).sum();
        u64::try_from((all / 4000).as_micros()).expect("a short time")
    }

    #[test]
    fn delays_are_read_and_written() {
        for text in ["0", "250", "uniform:100:500", "normal:200:50", "exponential:200"] {
            assert_eq!(Delay::parse(text).map(|delay| delay.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Delay::parse("fixed:7"), Some(Delay::Fixed(7)));
        for text in ["", "-1", "1ms", "uniform:5:4", "uniform:5", "normal:1", "9999999999999"] {
            assert_eq!(Delay::parse(text), None, "{text}");
        }
    }

    #[test]
    fn delays_have_their_distribution() {
        assert_eq!(mean_us(Delay::Fixed(250)), 250);
        assert!((290..310).contains(&mean_us(Delay::Uniform(100, 500))));
        assert!((195..205).contains(&mean_us(Delay::Normal(200, 50))));
        assert!((185..215).contains(&mean_us(Delay::Exponential(200))));
        let small = |hit| Delay::Uniform(5, 6).sample(3, hit).as_micros();
        assert!((0..40).any(|hit| small(hit) == 5) && (0..40).any(|hit| small(hit) == 6));
        let sample = |hit| Delay::Uniform(0, 1_000_000).sample(3, hit);
        assert_eq!(sample(9), sample(9));
        assert_ne!(sample(9), sample(10));
    }
}
