//! Asking before something is taken away from traffic. Nobody is asked where nobody sits at a
//! terminal: then `--yes` has to say it.

use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Goes on if `yes` was given or the person at the terminal agrees.
pub(super) fn confirm(
    output: &Output,
    yes: bool,
    impact: &[String],
    question: &str,
) -> Result<(), Failure> {
    if yes || impact.is_empty() {
        return Ok(());
    }
    for line in impact {
        output.message(&format!("! {line}"));
    }
    match output.ask(question) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::new(Exit::Failed, "not confirmed: nothing was changed")),
        None => Err(Failure::usage("this has to be confirmed, and there is no terminal to ask on")
            .hint("nothing was changed; add --yes if it is what you want")),
    }
}
