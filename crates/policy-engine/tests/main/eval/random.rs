//! Choices.

use proptest::prelude::Rng;
use proptest::test_runner::TestRunner;

/// Makes choices.
pub(crate) struct Random<'a>(pub(crate) &'a mut TestRunner);

impl Random<'_> {
    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0.rng().next_u32() as usize % count
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<'t, T: ?Sized>(&mut self, choices: &[&'t T]) -> &'t T {
        choices[self.below(choices.len())]
    }
}
