//! LFW's lists: `pairs.txt` of View 2 (ten folds) and of View 1 (one list), and View 1's list of people.

use std::path::{Path, PathBuf};

use super::{DatasetError, Fault, ImagePair, MAX_ENTRIES, at, lines, plain_name, text};

/// Reads `pairs.txt`, `pairsDevTrain.txt` and the like. Images are `images/<person>/<person>_NNNN.jpg` under `root`, or without
/// `images` where there is no such folder. The order is that of the list: in View 2, ten folds one after another.
///
/// # Errors
/// The file is missing or a line is not what the header promises.
pub fn read_lfw_pairs(list: &Path, root: &Path) -> Result<Vec<ImagePair>, DatasetError> {
    let images = root.join("images");
    let images = if images.is_dir() { images } else { root.to_owned() };
    parse_pairs(&text(list)?, &images).map_err(|fault| at(list, fault))
}

/// Reads `peopleDevTrain.txt`: each person and their number of images.
///
/// # Errors
/// The file is missing or a line is not what the header promises.
pub fn read_lfw_people(list: &Path) -> Result<Vec<(String, u32)>, DatasetError> {
    parse_people(&text(list)?).map_err(|fault| at(list, fault))
}

fn number<T: std::str::FromStr>(line: usize, field: &str, what: &str) -> Result<T, Fault> {
    field.parse().map_err(|_| (line, format!("{field:?} is no {what}")))
}

fn fields(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Folds, and pairs of each kind in a fold.
fn header(line: usize, text: &str) -> Result<(usize, usize), Fault> {
    let (folds, each): (usize, usize) = match fields(text).as_slice() {
        [each] => (1, number(line, each, "number of pairs")?),
        [folds, each] => (number(line, folds, "number of folds")?, number(line, each, "number of pairs")?),
        _ => {
            return Err((
                line,
                "the header should be one number (View 1), or folds and pairs in a fold (View 2)".to_owned(),
            ));
        }
    };
    let total = each.checked_mul(2).and_then(|pairs| pairs.checked_mul(folds));
    match total {
        Some(total) if total > 0 && total <= MAX_ENTRIES => Ok((folds, each)),
        _ => Err((line, format!("{folds} folds of twice {each} pairs: there must be some, and at most {MAX_ENTRIES}"))),
    }
}

pub(super) fn parse_pairs(text: &str, images: &Path) -> Result<Vec<ImagePair>, Fault> {
    let mut rest = lines(text);
    let (line, first) = rest.next().ok_or((0, "the list is empty".to_owned()))?;
    let (folds, each) = header(line, first)?;
    let mut pairs = Vec::new();
    for fold in 1..=folds {
        for same in std::iter::repeat_n(true, each).chain(std::iter::repeat_n(false, each)) {
            let missing = || (0, format!("the list ends in fold {fold} of {folds}, after {} pairs", pairs.len()));
            let (line, text) = rest.next().ok_or_else(missing)?;
            pairs.push(pair(line, text, same, images)?);
        }
    }
    match rest.next() {
        Some((line, _)) => Err((line, format!("a line too many: the header promises {} pairs", pairs.len()))),
        None => Ok(pairs),
    }
}

fn pair(line: usize, text: &str, same: bool, images: &Path) -> Result<ImagePair, Fault> {
    let image = |person: &str, n: &str| image(line, images, person, n);
    match (same, fields(text).as_slice()) {
        (true, [person, a, b]) => Ok(ImagePair { a: image(person, a)?, b: image(person, b)?, same }),
        (false, [p, a, q, b]) => Ok(ImagePair { a: image(p, a)?, b: image(q, b)?, same }),
        (true, found) => {
            Err((line, format!("{} fields; a pair of one person has three: name, number, number", found.len())))
        }
        (false, found) => {
            Err((line, format!("{} fields; a pair of two people has four: name, number, name, number", found.len())))
        }
    }
}

fn image(line: usize, images: &Path, person: &str, n: &str) -> Result<PathBuf, Fault> {
    let n: u32 = number(line, n, "number of an image")?;
    let person = plain_name(line, person)?;
    Ok(images.join(person).join(format!("{person}_{n:04}.jpg")))
}

pub(super) fn parse_people(text: &str) -> Result<Vec<(String, u32)>, Fault> {
    let mut rest = lines(text);
    let (line, first) = rest.next().ok_or((0, "the list is empty".to_owned()))?;
    let promised: usize = number(line, first, "number of people; View 2's lists in folds are not read")?;
    let mut people = Vec::new();
    for (line, text) in rest {
        match fields(text).as_slice() {
            [name, count] => {
                people.push((plain_name(line, name)?.to_owned(), number(line, count, "number of images")?))
            }
            _ => return Err((line, "a line should be a name and a number of images".to_owned())),
        }
    }
    if people.len() != promised {
        return Err((line, format!("the header promises {promised} people, but {} follow", people.len())));
    }
    Ok(people)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Vec<ImagePair>, Fault> {
        parse_pairs(text, Path::new("i"))
    }

    #[test]
    fn view_2_has_folds() {
        let list = "2\t1\nAnn\t1\t12\nAnn\t1\tBob\t2\nBob\t3\t4\r\nBob\t1\tCy\t1\n";
        let pairs = parse(list).unwrap();
        assert_eq!(pairs.iter().map(|p| p.same).collect::<Vec<_>>(), [true, false, true, false]);
        assert_eq!(pairs[0].b, Path::new("i/Ann/Ann_0012.jpg"));
        assert_eq!(pairs[1].b, Path::new("i/Bob/Bob_0002.jpg"));
    }

    #[test]
    fn view_1_is_one_list() {
        let pairs = parse("2\nAnn 1 2\nAnn 1 3\nAnn 1 Bob 1\nBob 1 Cy 1\n").unwrap();
        assert_eq!(pairs.iter().map(|p| p.same).collect::<Vec<_>>(), [true, true, false, false]);
    }

    #[test]
    fn a_fault_names_its_line() {
        for (list, line) in [
            ("", 0),
            ("x", 1),
            ("1 2 3", 1),
            ("99999999999999999999", 1),
            ("4000000000 4000000000", 1),
            ("0", 1),
            ("1\nAnn 1 2", 0),
            ("1\nAnn 1 2\nAnn 1 2", 3),
            ("1\n\nAnn 1 Bob 2", 3),
            ("1\nAnn 1 2\nAnn 1 Bob -1", 3),
            ("1\n../etc 1 2\nAnn 1 Bob 1", 2),
            ("1\nAnn 1 2\nAnn 1 Bob 1\nAnn 1 2", 4),
        ] {
            assert_eq!(parse(list).unwrap_err().0, line, "{list:?}");
        }
    }

    #[test]
    fn people_are_counted() {
        assert_eq!(parse_people("2\nAnn\t3\nBob\t1\n").unwrap(), [("Ann".to_owned(), 3), ("Bob".to_owned(), 1)]);
        assert!(parse_people("3\nAnn\t3\nBob\t1\n").unwrap_err().1.contains("promises 3"));
        assert_eq!(parse_people("1\nAnn\n").unwrap_err().0, 2);
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "[0-9A-Za-z./\t \n]{0,80}", any in any::<String>()) {
            for text in [text, any] {
                let _ = parse(&text);
                let _ = parse_people(&text);
            }
        }
    }
}
