//! What is shown for which state. Pure: no I/O, no clock; the time is an argument.
//!
//! | module | owns |
//! |---|---|
//! | [`actions`] | what a person can do with an application now |
//! | [`asked`] | what somebody asked of a rollout, and no controller has answered |
//! | [`facts`] | what is known of one application, and how that was read from Consul |
//! | [`plans`] | what a plan means at today's traffic |
//! | [`sides`] | the two sides of an application, and the bar of their shares |
//! | [`row`] | one application in the list |
//! | [`detail`] | one application on its own page |
//! | [`chart`] | the errors of both sides over the last hour |
//! | [`checks`] | the two cards of a rollout: when it goes on, when it goes back |
//! | [`moves`] | who moved an application |
//! | [`fleet`] | the nodes |
//! | [`words`] | numbers and times as people read them |

pub mod actions;
pub mod asked;
pub mod chart;
pub mod checks;
pub mod detail;
pub mod facts;
pub mod fleet;
pub mod moves;
pub mod plans;
pub mod row;
pub mod sides;
pub mod words;

/// How much a state asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Nothing.
    #[default]
    Calm,
    /// A person is needed: amber.
    Attention,
    /// It went back: red.
    Bad,
}

impl Tone {
    /// The class in the style sheet; empty for [`Tone::Calm`].
    pub const fn class(self) -> &'static str {
        match self {
            Self::Calm => "",
            Self::Attention => "att",
            Self::Bad => "bad",
        }
    }
}
