//! `mainspring txn half`: half messages that wait for their verdict, and the verdict by hand.

use mainspring_core::client::entries::{Alteration, Wanted};

use super::failure::Failure;
use super::output::Stop;
use super::schedule::{self, Which};
use super::topic::{Common, confirm};

/// Flags of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topics [default: all]
    topics: Vec<String>,
    /// Only those whose verdict is asked for no more
    #[arg(long, conflicts_with_all = ["commit", "rollback"])]
    parked: bool,
    /// At most so many
    #[arg(long, value_name = "N", conflicts_with_all = ["commit", "rollback"])]
    limit: Option<usize>,
    /// Let this one of the topic out; may be repeated
    #[arg(long, value_name = "P@TICKET", conflicts_with = "rollback")]
    commit: Vec<String>,
    /// Take this one of the topic back, so that it never comes; may be repeated. Asks first on a terminal, and needs
    /// --yes elsewhere
    #[arg(long, value_name = "P@TICKET")]
    rollback: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<(), Stop> {
    let Args { topics, parked, limit, commit, rollback, yes, common } = args;
    if commit.is_empty() && rollback.is_empty() {
        let wanted = if parked { Wanted::Parked } else { Wanted::Half };
        return schedule::list(&topics, &wanted, limit, &common).await;
    }
    let [topic] = &topics[..] else {
        let next = "write it as mainspring txn half TOPIC --commit 0@17";
        return Err(Failure::usage("cannot give a verdict", "it is for one topic", next).into());
    };
    if rollback.is_empty() {
        let which = Which::of(topic.clone(), commit);
        return schedule::alter("commit", &which, Alteration::Commit, &common).await;
    }
    let which = Which::of(topic.clone(), rollback);
    let names = which.names()?;
    confirm(yes, &format!("roll back {names}"), "so that nobody ever sees it")?;
    schedule::alter("roll back", &which, Alteration::Rollback, &common).await
}
