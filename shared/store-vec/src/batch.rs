//! One call for many items, and fewer where the server does not take them together: the fault of one item is that item's
//! alone, and a limit on the size of a call makes more calls.

use std::ops::Range;

use facewire_domain::FaultKind;

use crate::VecError;

/// Calls for `0..count` in parts of at most `most`, and halves a part that is refused for what it holds until the item at
/// fault is alone. Gives what became of each item, in order.
///
/// # Errors
/// Whatever is not one item's: then nothing is known of the rest.
pub(crate) async fn each<R, F>(
    count: usize,
    most: usize,
    call: impl Fn(Range<usize>) -> F,
) -> Result<Vec<Result<R, VecError>>, VecError>
where
    F: Future<Output = Result<Vec<R>, VecError>>,
{
    let most = most.max(1);
    let starts = (0..count).step_by(most).rev();
    let mut parts: Vec<Range<usize>> = starts.map(|start| start..start.saturating_add(most).min(count)).collect();
    let mut done = Vec::with_capacity(count);
    while let Some(part) = parts.pop() {
        match call(part.clone()).await {
            Ok(answers) if answers.len() == part.len() => done.extend(answers.into_iter().map(Ok)),
            Ok(_) => return Err(VecError::Answer("there are not as many results as items")),
            Err(error) if error.is_of_a_part() && part.len() > 1 => {
                let middle = part.start + part.len() / 2;
                parts.push(middle..part.end);
                parts.push(part.start..middle);
            }
            Err(error) if error.kind() == FaultKind::Poison => done.push(Err(error)),
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn one_bad_item_is_found_with_few_calls() {
        for bad in 0..20 {
            let calls = Cell::new(0);
            let call = |part: Range<usize>| {
                calls.set(calls.get() + 1);
                async move {
                    if part.contains(&bad) { Err(VecError::Rejected("bad".to_owned())) } else { Ok(part.collect()) }
                }
            };
            let done = each(20, usize::MAX, call).await.unwrap();
            let fine: Vec<_> = done.iter().map(|result| result.as_ref().ok().copied()).collect();
            assert_eq!(fine, (0..20).map(|n| (n != bad).then_some(n)).collect::<Vec<_>>());
            assert!(calls.get() <= 11, "{}", calls.get());
        }
    }

    #[tokio::test]
    async fn a_limit_makes_more_calls_and_is_systemic_for_one_item() {
        let largest = |limit| {
            each(10, 8, move |part: Range<usize>| async move {
                if part.len() > limit { Err(VecError::Limit("too many".to_owned())) } else { Ok(part.collect()) }
            })
        };
        let done: Vec<usize> = largest(3).await.unwrap().into_iter().map(Result::unwrap).collect();
        assert_eq!(done, (0..10).collect::<Vec<_>>());
        assert!(matches!(largest(0).await, Err(VecError::Limit(_))));
    }

    #[tokio::test]
    async fn what_is_nobodys_fault_fails_the_whole() {
        let away = |_| async { Err::<Vec<()>, _>(VecError::Unavailable("away".to_owned())) };
        assert!(matches!(each(4, 4, away).await, Err(VecError::Unavailable(_))));
        let short = |_| async { Ok(vec![()]) };
        assert!(matches!(each(4, 4, short).await, Err(VecError::Answer(_))));
    }
}
