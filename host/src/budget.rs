//! How much may come in one second.

use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// So many in a second; the others are counted.
#[derive(Clone, Debug)]
pub struct Budget {
    most: u32,
    since: Option<Instant>,
    used: u32,
    refused: u64,
}

impl Budget {
    /// `most` in each second.
    pub fn a_second(most: u32) -> Self {
        Self { most, since: None, used: 0, refused: 0 }
    }

    /// Takes one, if there is one left: how many were refused before it.
    pub fn take(&mut self) -> Option<u64> {
        self.take_at(Instant::now())
    }

    fn take_at(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now - since >= SECOND) {
            (self.since, self.used) = (Some(now), 0);
        }
        if self.used >= self.most {
            self.refused += 1;
            return None;
        }
        self.used += 1;
        Some(std::mem::take(&mut self.refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted_and_told_once() {
        let mut budget = Budget::a_second(2);
        let start = Instant::now();
        let takes: Vec<_> = (0..5).map(|_| budget.take_at(start)).collect();
        assert_eq!(takes, [Some(0), Some(0), None, None, None]);
        assert_eq!(budget.take_at(start + SECOND), Some(3));
        assert_eq!(budget.take_at(start + SECOND), Some(0));
        assert_eq!(Budget::a_second(0).take(), None);
    }
}
