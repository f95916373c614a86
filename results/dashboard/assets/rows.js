// The row under a trial's own, which says why it ended as it did.
(() => {
  const functions = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
  functions.Below = (props) =>
    window.React.createElement("div", { className: "reason", role: "gridcell", title: props.data.reason }, props.data.reason);
})();
