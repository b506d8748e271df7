//! The one table of all rules: name, kind, default, range and the formats in which each is allowed.
//! Validation hangs on it, and `GET /v1/rules` serves it.

use crate::Format;

/// One rule of a lot or tender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleRow {
    /// Its name, with a point for a member of a block: `overtime.window_s`.
    pub name: &'static str,
    /// What a value is.
    pub kind: RuleKind,
    /// What it is when it is left out; none: it is required where its formats or its block are used, or simply absent.
    pub default: Option<&'static str>,
    /// What is valid, in words.
    pub valid: &'static str,
    /// The formats in which it is allowed.
    pub formats: &'static [Format],
}

/// What a value of a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// A whole number in this range.
    Integer(i64, i64),
    /// A price or another amount, as a decimal string.
    Amount,
    /// A decimal string in this range, both ends included.
    Decimal(&'static str, &'static str),
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An object with members of its own.
    Block,
    /// A list.
    List,
}

impl RuleKind {
    /// The kind in one word, as served.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Integer(..) => "integer",
            Self::Amount => "amount",
            Self::Decimal(..) => "decimal",
            Self::Flag => "boolean",
            Self::Word(_) => "word",
            Self::Block => "object",
            Self::List => "array",
        }
    }
}

/// All rules.
pub const RULES: &[RuleRow] = &[];
