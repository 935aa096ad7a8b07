/**
 * JSON schemas of the custom scalars, for the check of the variables. `null` is added to `type` where a value is
 * optional.
 */
export const SCALAR_SCHEMAS = {
  DateTime: { type: 'string' },
  JSON: { type: ['object', 'array', 'string', 'number', 'boolean'] },
};
