//! Groups of guests, and what budgets lend one another: as planned, and in the manager.

use std::collections::BTreeMap;
use std::time::Duration;

use wrt_memory::{
    CrateId, CrateName, CrateSettings, LendingRule, LoanState, LoanTerms, UnifiedMemoryManager,
};

use crate::plan::GuestPlan;
use crate::sizes::show;

/// A budget that guests, or other groups, share: a customer with many modules.
#[derive(Clone, Debug)]
pub struct GroupPlan {
    /// What its crate is called.
    pub name: String,
    /// The group it is part of.
    pub group: Option<String>,
    /// Most bytes of all in it together.
    pub limit: Option<usize>,
    /// Bytes they can always have, above what each is guaranteed.
    pub guarantee: usize,
}

/// What one may borrow of what another is guaranteed and leaves idle.
#[derive(Clone, Debug)]
pub struct LendPlan {
    /// The guest, or group, whose guarantee it is.
    pub from: String,
    /// The guest, or group, that may borrow.
    pub to: String,
    /// Bytes at one time.
    pub most: usize,
    /// How long the borrower has to repay what was recalled, before it may be ended.
    pub deadline: Option<Duration>,
}

/// Whether groups and loans agree with the guests there are.
///
/// # Errors
/// What does not, and what would be right.
pub fn check(groups: &[GroupPlan], lending: &[LendPlan], guests: &[GuestPlan]) -> Result<(), String> {
    for (at, group) in groups.iter().enumerate() {
        let name = &group.name;
        if CrateName::new(name).is_none() {
            return Err(format!("`{name}` cannot be a group's name: it takes 1 to 48 bytes and no NUL"));
        }
        if groups[..at].iter().any(|other| other.name == *name)
            || guests.iter().any(|guest| guest.name == *name)
        {
            return Err(format!("`{name}` is the name of two budgets: give each its own"));
        }
        if let Some(parent) = &group.group
            && !groups[..at].iter().any(|other| other.name == *parent)
        {
            return Err(format!("{name}: there is no group `{parent}` above it in the file"));
        }
        if let Some(limit) = group.limit.filter(|&limit| limit < group.guarantee) {
            return Err(format!(
                "{name}: the limit ({}) is below the guarantee ({}); raise the one or lower the other",
                show(limit),
                show(group.guarantee)
            ));
        }
    }
    for guest in guests {
        if let Some(group) = &guest.group
            && !groups.iter().any(|other| other.name == *group)
        {
            return Err(format!(
                "{}: there is no group `{group}`: write `[[group]]` with that name",
                guest.name
            ));
        }
    }
    for lend in lending {
        for name in [&lend.from, &lend.to] {
            let known = groups.iter().any(|group| group.name == *name)
                || guests.iter().any(|guest| guest.name == *name);
            if !known {
                return Err(format!("there is no guest or group `{name}` to lend or borrow"));
            }
        }
        let guarantee = |name: &str| {
            let group = groups.iter().find(|group| group.name == name).map(|group| group.guarantee);
            group.or_else(|| guests.iter().find(|guest| guest.name == name).map(|guest| guest.guarantee))
        };
        if guarantee(&lend.from) == Some(0) {
            return Err(format!("{}: what is lent is guaranteed room, and it has no guarantee", lend.from));
        }
    }
    Ok(())
}

/// Registers the groups: their ids by their names.
///
/// # Errors
/// A guarantee that cannot be given.
pub fn register(
    manager: &UnifiedMemoryManager,
    groups: &[GroupPlan],
) -> Result<BTreeMap<String, CrateId>, String> {
    let mut ids = BTreeMap::new();
    for group in groups {
        let settings =
            CrateSettings::new().limit(group.limit.unwrap_or(usize::MAX)).guarantee(group.guarantee);
        let settings = within(settings, &ids, group.group.as_ref());
        let id =
            manager.register(&group.name, settings).map_err(|error| format!("{}: {error}", group.name))?;
        ids.insert(group.name.clone(), id);
    }
    Ok(ids)
}

/// Settings of a crate in this group, if any.
pub fn within(
    settings: CrateSettings,
    ids: &BTreeMap<String, CrateId>,
    group: Option<&String>,
) -> CrateSettings {
    match group.and_then(|group| ids.get(group)) {
        Some(&parent) => settings.parent(parent),
        None => settings,
    }
}

/// Lets those borrow who may.
///
/// # Errors
/// What the manager says against it.
pub fn allow(
    manager: &UnifiedMemoryManager,
    ids: &BTreeMap<String, CrateId>,
    lending: &[LendPlan],
) -> Result<(), String> {
    for lend in lending {
        let (Some(&from), Some(&to)) = (ids.get(&lend.from), ids.get(&lend.to)) else { continue };
        let terms = lend.deadline.map_or(LoanTerms::Idle, |deadline| LoanTerms::Evictable { deadline });
        let rule = LendingRule::new(lend.most).terms(terms).automatic();
        let allowed = manager.sharing().allow(from, to, rule);
        allowed.map_err(|error| format!("{} to {}: {error}", lend.from, lend.to))?;
    }
    Ok(())
}

/// What has been lent, told as it happens.
#[derive(Default)]
pub struct Story {
    /// As it was when last looked at.
    pairs: Vec<Pair>,
}

/// What one crate has lent to another, in bytes.
#[derive(Clone, Copy)]
struct Pair {
    lender: CrateId,
    borrower: CrateId,
    lent: usize,
    /// Recalled, and still in use.
    owed: usize,
}

impl Pair {
    fn is_same(&self, other: &Self) -> bool {
        (self.lender, self.borrower) == (other.lender, other.borrower)
    }
}

impl Story {
    /// What is new since the last look.
    pub fn look(&mut self, manager: &UnifiedMemoryManager) -> Vec<String> {
        let mut now: Vec<Pair> = Vec::new();
        for loan in manager.sharing().loans() {
            let owed = if loan.state == LoanState::Recalling { loan.outstanding } else { 0 };
            let one = Pair { lender: loan.lender, borrower: loan.borrower, lent: loan.outstanding, owed };
            match now.iter_mut().find(|pair| pair.is_same(&one)) {
                Some(pair) => (pair.lent, pair.owed) = (pair.lent + one.lent, pair.owed + one.owed),
                None => now.push(one),
            }
        }
        let name = |id| manager.node(id).map_or_else(|_| format!("{id}"), |node| node.name.to_string());
        let mut news = Vec::new();
        for pair in &now {
            let before = self.pairs.iter().find(|before| before.is_same(pair));
            let (lender, borrower) = (name(pair.lender), name(pair.borrower));
            if before.is_none() {
                let lent = show(pair.lent);
                news.push(format!("{borrower}: goes on with {lent} of what {lender} leaves idle"));
            }
            if pair.owed > 0 && before.is_none_or(|before| before.owed == 0) {
                let owed = show(pair.owed);
                news.push(format!("{lender}: wants back what it lent; {borrower} still uses {owed} of it"));
            }
        }
        for pair in self.pairs.iter().filter(|before| !now.iter().any(|pair| pair.is_same(before))) {
            news.push(format!("{}: has all it lent to {} back", name(pair.lender), name(pair.borrower)));
        }
        self.pairs = now;
        news
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::plan::Source;

    fn guest(name: &str, group: Option<&str>) -> GuestPlan {
        let plan = GuestPlan::new(name, Source::Bytes(Cow::Borrowed(b"")));
        GuestPlan { group: group.map(str::to_owned), guarantee: 10, ..plan }
    }

    fn group(name: &str, group: Option<&str>) -> GroupPlan {
        GroupPlan { name: name.to_owned(), group: group.map(str::to_owned), limit: Some(100), guarantee: 0 }
    }

    fn lend(from: &str, to: &str) -> LendPlan {
        LendPlan { from: from.to_owned(), to: to.to_owned(), most: 10, deadline: None }
    }

    #[test]
    fn names_that_are_not_there_are_named() {
        let guests = [guest("a", Some("g")), guest("b", None)];
        let groups = [group("g", None), group("h", Some("g"))];
        check(&groups, &[lend("a", "b"), lend("b", "h")], &guests).unwrap();
        for (groups, lending, why) in [
            (vec![], vec![], "no group `g`"),
            (vec![group("h", Some("g")), group("g", None)], vec![], "no group `g` above it"),
            (vec![group("g", None), group("g", None)], vec![], "two budgets"),
            (vec![group("g", None), group("b", None)], vec![], "two budgets"),
            (vec![group("g", None)], vec![lend("a", "c")], "no guest or group `c`"),
            (vec![group("g", None)], vec![lend("g", "b")], "no guarantee"),
            (vec![GroupPlan { guarantee: 101, ..group("g", None) }], vec![], "below the guarantee"),
        ] {
            let message = check(&groups, &lending, &guests).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn a_loan_is_told_from_its_begin_to_its_end_and_each_part_once() {
        let manager = UnifiedMemoryManager::builder().total(1 << 20).stock(0).build().unwrap();
        let make =
            |name: &str| manager.register(name, CrateSettings::new().limit(65536).guarantee(65536)).unwrap();
        let (lender, borrower) = (make("quiet"), make("busy"));
        let ids = [("quiet".to_owned(), lender), ("busy".to_owned(), borrower)].into();
        allow(&manager, &ids, &[LendPlan { most: 65536, ..lend("quiet", "busy") }]).unwrap();
        let mut story = Story::default();
        assert!(story.look(&manager).is_empty());
        let charge = manager.charge(borrower, 100_000, 100_000).unwrap();
        assert_eq!(story.look(&manager), ["busy: goes on with 33.7 KiB of what quiet leaves idle"]);
        assert!(story.look(&manager).is_empty());
        // Nothing is left to make good for it with.
        let rest = manager.register("rest", CrateSettings::new()).unwrap();
        let rest = manager.charge(rest, 0, manager.snapshot().free).unwrap();
        assert!(manager.charge(lender, 65536, 65536).is_err());
        assert_eq!(story.look(&manager), ["quiet: wants back what it lent; busy still uses 33.7 KiB of it"]);
        assert!(story.look(&manager).is_empty());
        drop(charge);
        assert_eq!(story.look(&manager), ["quiet: has all it lent to busy back"]);
        drop(rest);
        assert!(story.look(&manager).is_empty());
        assert_eq!(manager.sharing().loans(), []);
    }
}
