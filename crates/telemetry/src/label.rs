//! Labels as types: each has a closed set of values, so a combination of them is a number.

use std::borrow::Cow;

use crate::scope::Scope;

/// A label. Implemented by the types of [`crate::labels`] alone.
pub trait Label: Copy {
    /// Its name.
    #[doc(hidden)]
    const NAME: &'static str;

    /// Returns its values in words, for the documentation.
    #[doc(hidden)]
    fn allowed() -> Cow<'static, str>;

    /// Returns how many values it has in a process.
    #[doc(hidden)]
    fn count(scope: &ScopeRef<'_>) -> usize;

    /// Returns a value's text; `None` while it stands for nothing.
    #[doc(hidden)]
    fn text<'a>(scope: &ScopeRef<'a>, index: usize) -> Option<Cow<'a, str>>;

    /// Returns the value's number, below [`Label::count`].
    #[doc(hidden)]
    fn index(self) -> usize;
}

/// The ranges of configured labels, opaque outside of this crate.
#[derive(Debug)]
pub struct ScopeRef<'a>(pub(crate) &'a Scope);

/// A combination of labels: `()`, a [`Label`], or a tuple of them.
pub trait Labels: Copy {
    /// Tells the name and the values in words of each, in order.
    #[doc(hidden)]
    fn describe(each: &mut dyn FnMut(&'static str, Cow<'static, str>));

    /// Returns how many combinations there are.
    #[doc(hidden)]
    fn count(scope: &ScopeRef<'_>) -> usize;

    /// Returns the combination's number, below [`Labels::count`].
    #[doc(hidden)]
    fn index(self, scope: &ScopeRef<'_>) -> usize;

    /// Tells name and value of each label of a combination; returns whether all stand for something.
    #[doc(hidden)]
    fn texts(scope: &ScopeRef<'_>, index: usize, each: &mut dyn FnMut(&'static str, &str)) -> bool;
}

impl Labels for () {
    fn describe(_: &mut dyn FnMut(&'static str, Cow<'static, str>)) {}

    fn count(_: &ScopeRef<'_>) -> usize {
        1
    }

    fn index(self, _: &ScopeRef<'_>) -> usize {
        0
    }

    fn texts(_: &ScopeRef<'_>, _: usize, _: &mut dyn FnMut(&'static str, &str)) -> bool {
        true
    }
}

impl<A: Label> Labels for A {
    fn describe(each: &mut dyn FnMut(&'static str, Cow<'static, str>)) {
        each(A::NAME, A::allowed());
    }

    fn count(scope: &ScopeRef<'_>) -> usize {
        A::count(scope)
    }

    fn index(self, _: &ScopeRef<'_>) -> usize {
        Label::index(self)
    }

    fn texts(scope: &ScopeRef<'_>, index: usize, each: &mut dyn FnMut(&'static str, &str)) -> bool {
        let text = A::text(scope, index);
        if let Some(text) = &text {
            each(A::NAME, text);
        }
        text.is_some()
    }
}

/// The last label varies fastest.
impl<A: Label, B: Labels> Labels for (A, B) {
    fn describe(each: &mut dyn FnMut(&'static str, Cow<'static, str>)) {
        <A as Labels>::describe(each);
        B::describe(each);
    }

    fn count(scope: &ScopeRef<'_>) -> usize {
        A::count(scope) * B::count(scope)
    }

    fn index(self, scope: &ScopeRef<'_>) -> usize {
        Label::index(self.0) * B::count(scope) + self.1.index(scope)
    }

    fn texts(scope: &ScopeRef<'_>, index: usize, each: &mut dyn FnMut(&'static str, &str)) -> bool {
        let rest = B::count(scope);
        <A as Labels>::texts(scope, index / rest, each) && B::texts(scope, index % rest, each)
    }
}
