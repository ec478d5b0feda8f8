//! `${VARIABLE}` in configuration values.

/// Replaces every `${NAME}`; a `$` without a brace stands for itself.
///
/// # Errors
/// With the reason where a variable is not set or a brace is not closed.
pub fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let end = rest[start..]
            .find('}')
            .ok_or_else(|| "a ${ without its closing brace".to_owned())?;
        let name = &rest[start + 2..start + end];
        expanded.push_str(&rest[..start]);
        expanded
            .push_str(&variable(name).ok_or_else(|| format!("the variable {name} is not set"))?);
        rest = &rest[start + end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}
