// Prints a named value as one line of JSON, for the test that runs the script.
export const report = (name, value) => console.log(JSON.stringify([name, value]));
