//! The shipped function on numbers, for the values a solver found for a path: does the code that ships do
//! what its terms say?

use crate::relation::{Relation, VERSION, refusal};
use crate::shipped::amount::Units;
use crate::shipped::state::State;

/// Replays a path with `values`: those before, then what the terms say comes out.
pub(crate) fn replay(relation: &Relation<'_>, values: &[String]) -> Result<(), String> {
    let takes = relation.row.takes.len();
    let (before, after) = values.split_at(takes + 6);
    let number = |text: &String| text.parse().ok().and_then(Units::new).ok_or(format!("{text} is no amount"));
    let amounts = before[..takes + 4].iter().map(number).collect::<Result<Vec<_>, _>>()?;
    let &[used, held, floor, limit] = &amounts[..4] else { return Err("too few values".to_owned()) };
    let [closed, owes] = [4, 5].map(|at| before[takes + at] == "true");
    let outcome = (relation.row.units)(
        State { used, held, floor, limit, closed, owes, version: VERSION },
        &amounts[4..],
    );
    let code = |why| {
        let names = [
            "Granted",
            "Closed",
            "OverLimit",
            "Short",
            "NotIdle",
            "BelowFloor",
            "InUse",
            "OutOfRange",
            "Queued",
            "Spills",
        ];
        names.iter().position(|name| *name == why).map_or(String::new(), |at| at.to_string())
    };
    let mut said = Vec::new();
    match outcome {
        Ok((state, given)) => {
            said.push(code("Granted"));
            said.extend([state.used, state.held, state.floor, state.limit].map(|x| x.get().to_string()));
            said.extend([state.closed.to_string(), state.owes.to_string(), state.version.to_string()]);
            said.extend(given.iter().map(|x| x.get().to_string()));
        }
        Err(why) => {
            let (why, figure) = refusal(why);
            said.push(code(why));
            said.extend(figure.map(|x| x.get().to_string()));
        }
    }
    if said == after {
        return Ok(());
    }
    Err(format!("{}: of {before:?} the terms say {after:?}, the function {said:?}", relation.row.name))
}
