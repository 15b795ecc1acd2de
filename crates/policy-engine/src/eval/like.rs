//! `LIKE` and `ILIKE`.

use reactor_model::filter::compare::Pattern;

use super::expr::{Case, Expr};
use super::node::known;
use super::{Scope, Stop, Verdict};

/// A match with a pattern.
#[derive(Clone, Debug)]
pub(super) struct Like {
    pub(super) text: Expr,
    pub(super) pattern: LikePattern,
    /// How texts and patterns are made one case for `ILIKE`.
    pub(super) case: Option<Case>,
}

#[derive(Clone, Debug)]
pub(super) enum LikePattern {
    /// Known before any row.
    Known(Pattern),
    /// Of the row.
    Of(Expr),
}

impl Like {
    pub(super) fn verdict(&self, scope: &Scope<'_>) -> Verdict {
        let text = self.text.value(scope);
        let pattern = match &self.pattern {
            LikePattern::Known(_) => Ok(None),
            LikePattern::Of(pattern) => pattern.value(scope).map(Some),
        };
        let (text, pattern) = match (text, pattern) {
            (Ok(text), Ok(pattern)) => (text, pattern),
            (Err(text), Err(pattern)) => return text.or(pattern).into(),
            (Err(stop), _) | (_, Err(stop)) => return stop.into(),
        };
        let (Some(text), true) = (text, pattern != Some(None)) else { return Verdict::Unknown };
        self.matches(&text, pattern.flatten().as_deref()).map_or_else(Verdict::from, known)
    }

    fn matches(&self, text: &[u8], pattern: Option<&[u8]>) -> Result<bool, Stop> {
        match (&self.pattern, pattern) {
            (LikePattern::Known(pattern), _) => self.fits(text, pattern),
            (LikePattern::Of(_), Some(pattern)) => self.fits(text, &parsed(pattern, self.case)?),
            (LikePattern::Of(_), None) => Err(Stop::Raised),
        }
    }

    fn fits(&self, text: &[u8], pattern: &Pattern) -> Result<bool, Stop> {
        let folded = self.case.map(|case| case.apply(text)).transpose()?;
        let text = folded.as_deref().unwrap_or(text);
        std::str::from_utf8(text).map(|text| pattern.matches(text)).map_err(|_| Stop::Raised)
    }
}

/// The pattern, in one case for `ILIKE`. One that ends within an escape is an error only for some texts.
pub(super) fn parsed(pattern: &[u8], case: Option<Case>) -> Result<Pattern, Stop> {
    let folded = case.map(|case| case.apply(pattern)).transpose()?;
    let pattern = std::str::from_utf8(folded.as_deref().unwrap_or(pattern)).map_err(|_| Stop::Raised)?;
    Pattern::parse(pattern).ok_or(Stop::Ask)
}
