//! What somebody who knows all that will be asked could grant at most.
//!
//! Of a step nobody can grant more than the pool has, nor more than is wanted: the oracle grants the lesser
//! of the two at every step. It owes nobody a guarantee, it may take memory from an instance that lives, and
//! an instance may begin with less than its least. No policy is free to do any of that, so none grants more.

use super::demand::CRATES;

/// The pages granted at each step, at most.
pub fn granted(wants: &[[usize; CRATES]], pool: usize) -> Vec<usize> {
    wants.iter().map(|at| at.iter().sum::<usize>().min(pool)).collect()
}

/// The share of what it wants over all steps that the worst-off crate gets, at most.
///
/// Sharing the pool out, step by step, so that every crate gets a share `s` of its sum, is a flow from crates to
/// steps. By max-flow min-cut there is one where, and only where, no group of crates wants more in its shares
/// than the pool could give that group alone. A flow that serves all of them so can be filled up to the most
/// there is to grant, so the oracle has both at once.
pub fn worst_off(wants: &[[usize; CRATES]], pool: usize) -> f64 {
    let groups = 1..1_usize << CRATES;
    let share = |group: usize| {
        let of_group = |at: &[usize; CRATES]| -> usize {
            (0..CRATES).filter(|owner| group >> owner & 1 == 1).map(|owner| at[owner]).sum()
        };
        let wanted: usize = wants.iter().map(of_group).sum();
        let given: usize = wants.iter().map(|at| of_group(at).min(pool)).sum();
        if wanted == 0 { 1.0 } else { given as f64 / wanted as f64 }
    };
    groups.map(share).fold(1.0, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first two crates' wants; the others want nothing.
    fn wants(steps: &[[usize; 2]]) -> Vec<[usize; CRATES]> {
        steps.iter().map(|&[a, b]| [a, b, 0, 0, 0, 0, 0, 0]).collect()
    }

    #[test]
    fn it_grants_the_lesser_of_pool_and_wants_at_each_step() {
        assert_eq!(granted(&wants(&[[3, 4], [6, 7], [0, 0], [20, 0]]), 10), [7, 10, 0, 10]);
    }

    #[test]
    fn the_worst_off_gets_what_the_best_of_all_ways_gives_it() {
        // Against every way to share out a pool of 3 over three steps.
        for steps in [[[3, 2], [3, 0], [1, 3]], [[3, 3], [3, 3], [3, 0]], [[2, 1], [0, 3], [1, 1]]] {
            let [a, b] = [0, 1].map(|owner| steps.iter().map(|at| at[owner]).sum::<usize>());
            let mut best = 0.0_f64;
            // What the second crate gets at each step, in hundredths of a page so that shares can be even.
            for way in 0..4_usize.pow(3) {
                let given = |step: usize| steps[step][1].min(way / 4_usize.pow(step as u32) % 4);
                let to_b: usize = (0..3).map(given).sum();
                let to_a: usize = (0..3).map(|step| steps[step][0].min(3 - given(step))).sum();
                best = best.max((to_a as f64 / a as f64).min(to_b as f64 / b as f64));
            }
            let found = worst_off(&wants(&steps), 3);
            // Pages are whole there and not here: at most one page of the smaller crate lies between.
            assert!(
                found >= best - 1e-9 && found <= best + 1.0 / a.min(b) as f64,
                "{steps:?}: {found}, {best}"
            );
        }
        assert_eq!(worst_off(&wants(&[[10, 0], [0, 10]]), 5), 0.5);
        assert_eq!(worst_off(&wants(&[[10, 10], [0, 10]]), 10), 2.0 / 3.0);
    }
}
