//! Both work in turn, round after round.

use std::fmt;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum, value_parser};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Who {
    /// The least that a client can do.
    Raw,
    /// This crate.
    Crate,
}

/// How many rounds, and of whom.
#[derive(Args, Debug, Clone)]
pub(crate) struct Rounds {
    /// In each round both run, in turn; the order alternates.
    #[arg(long = "rounds", value_name = "ROUNDS", default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    /// Only one of the two.
    #[arg(long)]
    pub(crate) only: Option<Who>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) who: Who,
    pub(crate) round: u32,
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {}: {:?}", self.round, self.who)
    }
}

/// What both did in one round.
#[derive(Debug)]
pub(crate) struct Round<T> {
    pub(crate) raw: Option<T>,
    pub(crate) ours: Option<T>,
}

impl Rounds {
    /// Lets both work in turn, every second round in the other order. The first `discard` rounds come in addition, and do not
    /// count.
    pub(crate) fn play<T>(&self, discard: u32, mut work: impl FnMut(Turn) -> Result<T>) -> Result<Vec<Round<T>>> {
        let mut rounds = Vec::new();
        for number in 0..discard + self.count {
            let round = self.round(number, &mut work)?;
            if number >= discard {
                rounds.push(round);
            }
        }
        Ok(rounds)
    }

    fn round<T>(&self, number: u32, work: &mut impl FnMut(Turn) -> Result<T>) -> Result<Round<T>> {
        let mut round = Round { raw: None, ours: None };
        let order = if number.is_multiple_of(2) { [Who::Raw, Who::Crate] } else { [Who::Crate, Who::Raw] };
        for who in order.into_iter().filter(|who| self.only.is_none_or(|only| only == *who)) {
            let turn = Turn { who, round: number };
            let done = work(turn).with_context(|| turn.to_string())?;
            match who {
                Who::Raw => round.raw = Some(done),
                Who::Crate => round.ours = Some(done),
            }
        }
        Ok(round)
    }
}
